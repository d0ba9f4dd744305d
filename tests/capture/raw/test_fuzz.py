"""Damaged files: whatever is cut or changed, decoding gives a picture or a DecodeError, never another exception."""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.fuzz.case import FOUND, SEEDS, load_all
from tests.fuzz.hostile import hostile_cases
from tests.fuzz.minimise import minimised
from tests.fuzz.mutate import Step, applied
from tests.fuzz.run import Report, fuzz, make_input, random_inputs, replay
from tests.fuzz.traps import trap
from tests.fuzz.worker import Worker
from tests.support.cr2 import write_cr2
from tests.support.cr3 import write_cr3
from tests.support.dng import write_frame_dng
from tests.support.halves import CROP, sensor_frames
from tests.support.pgm import write_pdcapture

from dualpix.capture.errors import DecodeError, DualpixError
from dualpix.capture.raw import DECODERS, decode
from dualpix.capture.raw.containers.boxes import read_cr3
from dualpix.capture.raw.containers.tiff import ASCII, LONG, RATIONAL, SHORT, Tag, TiffReader, ifd_bytes
from dualpix.capture.raw.inspect import inspect
from dualpix.capture.raw.write.dng import write_dual_pixel_dng

FUZZ = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
KINDS = ("CR2", "CR3", "dng", "pgm")
in_processes = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured as Linux does")


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("originals")
    truth = sensor_frames()
    write_cr2(folder / "a.CR2", truth.composite, truth.half, CROP)
    write_cr3(folder / "a.CR3", truth.composite, truth.half, CROP)
    write_dual_pixel_dng(folder / "a.dng", truth.composite, truth.half, white=16383, crop=CROP)
    write_pdcapture(folder / "a.pgm", np.random.default_rng(0).integers(0, 1023, (40, 60)))
    return {kind: (folder / f"a.{kind}").read_bytes() for kind in KINDS}


def decodes_or_refuses(folder: Path, kind: str, data: bytes, partner: bytes) -> bool:
    path = folder / f"f_left.{kind}"
    path.write_bytes(data)
    if kind == "pgm":
        (folder / "f_right.pgm").write_bytes(partner)
    try:
        image = decode(path)
    except DualpixError as error:
        assert "\n" not in str(error)
        return False
    assert np.isfinite(image.left).all() and np.isfinite(image.right).all()
    return True


@pytest.mark.parametrize("kind", KINDS)
@FUZZ
@given(where=st.floats(0, 0.9999))
@example(where=0.0)
@example(where=0.5)
@example(where=0.9999)
def test_a_cut_file_is_refused(originals: dict[str, bytes], tmp_path: Path, kind: str, where: float) -> None:
    data = originals[kind]
    cut = data[: min(int(len(data) * where), len(data) - 16)]
    assert not decodes_or_refuses(tmp_path, kind, cut, data)


@pytest.mark.parametrize("kind", KINDS)
@FUZZ
@given(changes=st.lists(st.tuples(st.floats(0, 0.9999), st.integers(0, 255)), min_size=1, max_size=8))
def test_changed_header_bytes(
    originals: dict[str, bytes], tmp_path: Path, kind: str, changes: list[tuple[float, int]]
) -> None:
    data = bytearray(originals[kind])
    header = min(len(data), 5000)
    for where, value in changes:
        data[int(where * header)] = value
    decodes_or_refuses(tmp_path, kind, bytes(data), originals[kind])


@pytest.mark.parametrize("kind", ["CR2", "CR3", "dng"])
@FUZZ
@given(where=st.floats(0, 0.9999), word=st.sampled_from([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 65535, 8]))
def test_extreme_header_words(originals: dict[str, bytes], tmp_path: Path, kind: str, where: float, word: int) -> None:
    data = bytearray(originals[kind])
    at = int(where * 4000) // 2 * 2
    data[at : at + 4] = struct.pack(">I" if kind == "CR3" else "<I", word)
    decodes_or_refuses(tmp_path, kind, bytes(data), b"")


@pytest.mark.parametrize("kind", ["CR2", "CR3"])
@FUZZ
@given(where=st.floats(0.1, 0.9999), value=st.integers(0, 255))
def test_changed_pixel_bytes(originals: dict[str, bytes], tmp_path: Path, kind: str, where: float, value: int) -> None:
    data = bytearray(originals[kind])
    data[int(where * len(data))] = value
    decodes_or_refuses(tmp_path, kind, bytes(data), b"")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_tiff_or_refused(data: bytes) -> None:
    for candidate in (data, b"II*\0" + data, b"MM\0*" + data):
        try:
            for ifd in TiffReader(candidate).chain():
                assert all(0 <= tag <= 65535 for tag in ifd.tags)
        except DecodeError:
            continue


@given(st.binary(max_size=300))
def test_any_bytes_are_boxes_or_refused(data: bytes) -> None:
    for candidate in (data, struct.pack(">I4s", len(data) + 8, b"moov") + data):
        try:
            read_cr3(candidate)
        except DecodeError:
            continue


def test_a_loop_of_directories_ends() -> None:
    data = struct.pack("<2sHI", b"II", 42, 8) + ifd_bytes([Tag(0x0100, LONG, [1])], 8, next_offset=8)
    assert len(list(TiffReader(data).chain())) == 1


@given(
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=20),
    st.lists(st.integers(0, 2**16 - 1), min_size=1, max_size=20),
    st.text(alphabet=st.characters(codec="ascii", exclude_characters="\0"), max_size=40),
    st.fractions(min_value=0, max_value=1000, max_denominator=1000),
)
def test_tags_read_back_as_written(longs: list[int], shorts: list[int], text: str, ratio: object) -> None:
    tags = [Tag(1, LONG, longs), Tag(2, SHORT, shorts), Tag(3, ASCII, text.encode()), Tag(4, RATIONAL, [ratio])]  # type: ignore[list-item]
    reader = TiffReader(struct.pack("<2sHI", b"II", 42, 8) + ifd_bytes(tags, 8))
    ifd = reader.ifd(8)
    assert ifd.integers(1) == tuple(longs)
    assert ifd.integers(2) == tuple(shorts)
    assert ifd.text(3) == (text.strip() or None)
    assert ifd.numbers(4) == (ratio,)


# --- files of every kind, mutated by tests/fuzz, in processes of their own -------------------------------------------


def failures(report: Report) -> str:
    return "\n".join(line for line in report.lines() if line.startswith("FAILED"))


@in_processes
def test_every_seed_decodes_and_every_decoder_has_one() -> None:
    seeds = load_all(SEEDS)
    found = {case.kind: tried.outcome for case, tried in zip(seeds, replay(seeds), strict=True)}
    assert {kind: o for kind, o in found.items() if o.result != "decoded"} == {}
    assert {outcome.reason for outcome in found.values()} == {decoder.name for decoder in DECODERS}


@in_processes
def test_what_once_failed_is_refused_or_decoded() -> None:
    found = load_all(FOUND)
    assert found
    for case, tried in zip(found, replay(found), strict=True):
        assert tried.outcome.result in ("decoded", "refused"), f"{case.kind}: {tried.outcome.detail}"


@in_processes
def test_small_files_with_enormous_claims_are_refused_before_memory_is_taken() -> None:
    cases = list(hostile_cases({case.kind: case for case in load_all(SEEDS)}))
    for (case, expected), tried in zip(cases, replay([case for case, _ in cases]), strict=True):
        assert tried.outcome.result == "refused", f"{case.kind}: {tried.outcome}"
        assert re.search(expected, tried.outcome.detail), f"{case.kind}: {tried.outcome.detail}"
        assert tried.peak_bytes < 64 << 20, f"{case.kind}: {tried.peak_bytes >> 20} MiB"


@in_processes
def test_some_hundred_mutations() -> None:
    report = fuzz(random_inputs(load_all(SEEDS), 1, range(384)), jobs=1)
    assert not report.failures, failures(report)
    assert report.inputs == 384
    assert min(report.results["decoded"], report.results["refused"]) > 60  # neither too gentle nor too coarse
    assert len(report.reasons) > 30


@in_processes
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_thousand_mutations(tmp_path: Path) -> None:
    report = fuzz(random_inputs(load_all(SEEDS), 0, range(20000)), jobs=2, out=tmp_path)
    assert not report.failures, failures(report)
    assert report.inputs == 20000


def test_an_input_is_named_by_its_number() -> None:
    seeds = load_all(SEEDS)
    one, again, other = (make_input(seeds, seed, 77) for seed in (3, 3, 4))
    assert one.case == again.case
    assert one.case != other.case


@in_processes
def test_dead_and_endless_and_greedy_inputs_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The instrument itself: children that are killed, spin, or take memory are found out and replaced."""
    monkeypatch.setattr("tests.fuzz.worker.MAX_SECONDS", 0.5)
    monkeypatch.setattr("tests.fuzz.worker.GRACE_SECONDS", 0.5)
    worker = Worker()
    try:
        results = [worker.try_one(case) for case in (trap("kill"), trap("spin"), trap("eat"), load_all(SEEDS)[0])]
    finally:
        worker.close()
    assert [tried.outcome.result for tried in results] == ["died", "hung", "failed", "decoded"]
    assert "MemoryError" in results[2].outcome.reason


@in_processes
def test_a_failure_is_made_small() -> None:
    """Of a message that is too long, one step and no option remain."""
    seed = next(case for case in load_all(SEEDS) if case.kind == "pgm")
    steps = [Step("a_left.pgm", "flip", 5), Step("a_left.pgm", "cut", 3), Step("a_right.pgm", "flip", 1)]
    case = replace(applied(seed, steps), options={"layout": "rgb"})
    worker = Worker()
    try:
        small, outcome = minimised(worker, seed, case, steps, bad=("refused",))
    finally:
        worker.close()
    assert outcome is not None
    assert outcome.result == "refused"
    assert small.files["a_right.pgm"] == seed.files["a_right.pgm"]
    assert small.options == {}


def test_text_of_a_file_reaches_a_message_without_control_characters() -> None:
    assert str(DecodeError("camera 'Ca\x1b[2J\x00n\u202eon'", hint="a\nb\tc")) == "camera 'Ca?[2J?n?on'; a b c"


def test_what_has_no_end_reaches_a_message_by_its_two_ends() -> None:
    text = str(DecodeError(f"'{'ab' * 5000}' is no number", expected="one"))
    assert text.startswith("'abab") and text.endswith("abab' is no number; expected one")
    assert " ... " in text and len(text) < 360
    assert str(DecodeError("a" * 360)) == "a" * 360


def test_frames_with_crops_of_their_own_are_an_answer_of_inspect(tmp_path: Path) -> None:
    truth = sensor_frames()
    write_frame_dng(tmp_path / "a.dng", truth.composite, CROP)
    write_frame_dng(tmp_path / "a_sub.dng", truth.half, replace(CROP, width=CROP.width - 32))
    broken = inspect(tmp_path / "a.dng", levels=True).broken
    assert broken is not None
    assert "pictures of" in broken
