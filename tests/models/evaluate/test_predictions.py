"""Maps of anybody as a method: every format, units of integers, and what is said of maps that are missing or do not
fit; then the command with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from tests.support import benchmark_folders as made

from dualpix.capture.cli import main, root
from dualpix.capture.errors import DualpixError
from dualpix.models.evaluate import PROTOCOLS, Pending, Protocol, Sample, predictions_in

ZEROS = np.zeros((48, 64), np.float32)


def sample(name: str = "a", shape: tuple[int, ...] = (48, 64)) -> Sample:
    return Sample(name, np.ones(shape, np.float32), np.ones(shape[:2], np.bool_))


def pending(*names: str) -> list[Pending]:
    return [Pending(name, lambda: sample()) for name in names]


def read(folder: Path, protocol: str, name: str = "a") -> np.ndarray:
    return predictions_in(folder, PROTOCOLS[protocol], pending(name))(sample(name)).values


RAMP = np.arange(48 * 64, dtype=np.float32).reshape(48, 64) / 1000


@pytest.mark.parametrize("suffix", ["npy", "tiff", "tif", "pfm", "png"])
def test_formats_give_the_same_depth(suffix: str, tmp_path: Path) -> None:
    """Floats are metres, 16-bit integers millimetres."""
    path = tmp_path / f"a.{suffix}"
    if suffix in ("tiff", "tif"):
        tifffile.imwrite(path, RAMP)
    elif suffix == "png":
        made.write(path, np.rint(RAMP * 1000).astype(np.uint16))
    else:
        made.write(path, RAMP)
    assert np.allclose(read(tmp_path, "zedd"), RAMP)


def test_a_tiff_may_have_holes_or_8_bits(tmp_path: Path) -> None:
    holed = RAMP.copy()
    holed[:4], holed[4] = np.nan, np.inf
    tifffile.imwrite(tmp_path / "a.tiff", holed)
    assert np.array_equal(read(tmp_path, "zedd"), holed, equal_nan=True)
    codes = (np.arange(48 * 64) % 200).reshape(48, 64).astype(np.uint8)
    (tmp_path / "a.tiff").unlink()
    made.write(tmp_path / "a.TIF", codes)
    assert np.array_equal(read(tmp_path, "dpd-disp-iccp"), codes), "as est.TIF in the authors' repository"
    (tmp_path / "a.TIF").write_bytes((tmp_path / "a.TIF").read_bytes()[:100])
    with pytest.raises(DualpixError, match=r"a\.TIF"):
        read(tmp_path, "dpd-disp-iccp")


@pytest.mark.parametrize("shape", [(1, 48, 64), (48, 64, 1), (1, 1, 48, 64), (1, 48, 64, 1)])
def test_arrays_of_a_batch_of_one_are_maps(shape: tuple[int, ...], tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", RAMP.reshape(shape))
    assert np.array_equal(read(tmp_path, "zedd"), RAMP)


def test_exr_without_its_package_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "a.exr").write_bytes(b"\x76\x2f\x31\x01")
    with pytest.raises(DualpixError, match=r"OpenEXR|damaged"):
        read(tmp_path, "zedd")


def test_exr_in_half_and_single_precision(tmp_path: Path) -> None:
    exr = pytest.importorskip("OpenEXR", reason="the OpenEXR package is not installed")
    for name, dtype in (("a", np.float16), ("b", np.float32)):
        pixels = (RAMP / 4).astype(dtype)
        channels = {"R": pixels, "G": 0 * pixels, "B": 0 * pixels}
        header = {"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage}
        with exr.File(header, channels) as file:
            file.write(str(tmp_path / f"{name}.exr"))
        assert np.allclose(read(tmp_path, "fod500", name), RAMP / 4, atol=1e-3)


def test_names_in_folders_may_be_flattened(tmp_path: Path) -> None:
    np.save(tmp_path / "bathroom_rgb_00045.npy", RAMP)
    assert np.array_equal(read(tmp_path, "nyuv2-stacks", "bathroom/rgb_00045"), RAMP)
    (tmp_path / "bathroom_rgb_00045.npy").unlink()
    made.write(tmp_path / "bathroom/rgb_00045.npy", RAMP)
    assert np.array_equal(read(tmp_path, "nyuv2-stacks", "bathroom/rgb_00045"), RAMP)


def test_integers_mean_what_the_unit_says(tmp_path: Path) -> None:
    codes = (np.arange(48 * 64) % 200).reshape(48, 64).astype(np.uint8)
    made.write(tmp_path / "a.png", codes)
    assert np.array_equal(read(tmp_path, "pixel4-xin"), codes), "up to an affine map any scale is right"
    for protocol in ("zedd", "ddd-syn", "ddff12"):
        with pytest.raises(DualpixError, match=r"'a\.png' holds uint8; expected floats in the unit of the protocol"):
            read(tmp_path, protocol)
    made.write(tmp_path / "a.png", made.noise((48, 64), dtype=np.uint16))
    assert np.allclose(read(tmp_path, "dpdd"), made.noise((48, 64), dtype=np.uint16) / 65535, atol=1e-6)
    with pytest.raises(DualpixError, match=r"'a\.png' is 48x64x3; expected one number a pixel"):
        read(tmp_path, "pixel4-xin")


def test_what_is_missing_or_there_twice_is_named(tmp_path: Path) -> None:
    def refused(*names: str) -> str:
        with pytest.raises(DualpixError) as raised:
            predictions_in(tmp_path, PROTOCOLS["zedd"], pending(*names))
        return str(raised.value)

    assert "has no prediction of 'a', 'b', 'c' and 1 more (it is empty)" in refused("a", "b", "c", "d")
    np.save(tmp_path / "a.npy", ZEROS)
    assert "has no prediction of 'b' (it holds a.npy)" in refused("a", "b")
    made.write(tmp_path / "a.png", ZEROS.astype(np.uint16))
    assert "has 'a.npy' and 'a.png' of one scene" in refused("a")
    with pytest.raises(DualpixError, match="no folder"):
        predictions_in(tmp_path / "nowhere", PROTOCOLS["zedd"], pending("a"))


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"depth": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DualpixError) as raised:
        read(tmp_path, "zedd")
    assert "a.npy" in str(raised.value)


# --- the command ---


def run(*args: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(root, ["evaluate", *map(str, args)], catch_exceptions=False)
    return done.exit_code, done.stdout


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    folder = tmp_path / "infinigen"
    folder.mkdir()
    made.infinigen_defocus(folder)
    return folder


def test_command_scores_a_folder_of_maps_beside_a_method(scenes: Path, tmp_path: Path) -> None:
    maps = tmp_path / "my-maps"
    for name, factor in (("1a4897de_1", 1.0), ("1a4897de_2", 1.1)):
        depth = np.load(scenes / name / "depth.npy")
        made.write(maps / f"{name}.npy", np.where(np.isfinite(depth), depth * np.float32(factor), 1))
    args = ("--data", "infinigen-defocus", scenes, "--predictions", maps)
    code, out = run(*args, "--json", "--pictures", tmp_path / "pictures")
    assert code == 0
    record = json.loads(out)
    assert list(record["mean"]) == ["my-maps"] and record["leaks_scale"] is None
    assert [round(s["abs_rel"], 6) for s in record["scenes"]] == [0, 0.1]
    assert record["mean"]["my-maps"]["abs_rel"] == pytest.approx(0.05)
    assert record["interval_95"]["my-maps"]["abs_rel"] == pytest.approx([0, 0.1], abs=1e-6)
    assert record["protocol"]["unit"] == "depth_m" and record["protocol"]["assumptions"]
    assert sorted(p.name for p in (tmp_path / "pictures").iterdir()) == ["1a4897de_1.png", "1a4897de_2.png"]
    code, out = run(*args, "--method", "argmax")
    assert code == 0 and "argmax" in out and "my-maps" in out and "1-2 m" in out and "δ1.05" in out


def test_command_names_a_map_of_the_wrong_size(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("1a4897de_1", "1a4897de_2"):
        made.write(tmp_path / f"maps/{name}.npy", ZEROS[:24, :32])
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "--data", "infinigen-defocus", str(scenes), "--predictions", str(tmp_path / "maps")])
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert stop.value.code == 2
    assert "the prediction of '1a4897de_1' is 24 x 32 px; expected 48 x 64 (height x width)" in last


def test_a_leaking_focus_list_is_said_in_every_table_and_json(tmp_path: Path) -> None:
    made.ibims1(tmp_path)
    args = ("--data", "ibims1-adaptive", tmp_path, "--method", "argmax")
    _, table = run(*args)
    assert "leaks the scale: the focus list is" in " ".join(table.split())
    record = json.loads(run(*args, "--json")[1])
    assert "true 1 / depth" in record["leaks_scale"] and "true 1 / depth" in record["protocol"]["leaks_scale"]


def test_pictures_of_affine_maps_and_of_sharp_pictures(tmp_path: Path) -> None:
    for name in ("ddd-syn", "dpdd"):
        folder, out = tmp_path / name, tmp_path / f"{name}-out"
        folder.mkdir()
        made.MAKERS[name](folder)
        args = ("--data", name, folder, *(("--method", "sgbm") if name == "ddd-syn" else ()))
        code, _ = run(*args, "--pictures", out)
        assert code == 0
        assert all(cv2.imread(str(path)).shape[1] > 128 for path in out.iterdir()) and any(out.iterdir())


def test_a_protocol_explains_itself() -> None:
    code, text = run("--data", "dpd-disp-iccp", "--protocol")
    assert code == 0 and "assumption: " in text and "srcc" not in text and "unit: affine" in text
    facts = json.loads(run("--data", "rendered:phone", "--protocol", "--json")[1])
    assert facts["name"] == "rendered:phone" and "seed 20270001" in facts["source"]


def test_every_protocol_takes_predictions(tmp_path: Path, made_protocol: tuple[Protocol, Path]) -> None:
    protocol, folder = made_protocol
    one = protocol.read(folder)[0]
    truth = one.load().truth
    values = np.where(np.isfinite(truth), truth, 1)
    made.write(tmp_path / f"maps/{one.name}.npy", values)
    found = predictions_in(tmp_path / "maps", protocol, [one])(one.load())
    assert found.unit == protocol.unit and np.array_equal(found.values, values.astype(np.float32))


@pytest.fixture(params=["google-dp", "dpdd", "fod500", "ddff12"])
def made_protocol(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Protocol, Path]:
    folder = tmp_path_factory.mktemp("made")
    maker: Callable[[Path], None] = made.MAKERS[request.param]
    maker(folder)
    return PROTOCOLS[request.param], folder
