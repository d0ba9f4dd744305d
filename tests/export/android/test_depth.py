"""Depth of a focus stack on the phone: pushed and started over the real adb, taken and prepared by the app's own Java
code, and computed by the exported program in the real runtime.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from tests.android_demo.conftest import DEMO
from tests.android_demo.stack_golden import exactly_warped
from tests.export.android.conftest import Connect, Connected
from tests.support.dng import write_frame_dng
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.capture.cameras.android import protocol
from dualpix.capture.raw.develop.geometry import Crop
from dualpix.capture.stack.judge.align import align_stack
from dualpix.capture.stack.keep.frames import read_light
from dualpix.capture.stack.keep.listing import ListedFrame
from dualpix.capture.stack.keep.load import exposure_gains, light_of
from dualpix.capture.types import FocusStack, LensModel
from dualpix.export.android.phone import connect as phone_at
from dualpix.export.flow import export_model
from dualpix.models.networks.spec import NetworkSpec
from dualpix.models.prepare import blur_px_per_diopter, stack_inputs
from dualpix.models.tasks.focus_stack import FARTHEST_M, FOCUS_STACK
from dualpix.models.tasks.task import eval_sample
from dualpix.models.zoo import LoadedModel
from dualpix.quantize.calibration import EvaluationSet

SIZE_HW = (64, 96)
STOPS_D = (0.0, 1.0, 2.0, 3.0, 4.0)
PLANES_D = (3.0, 1.0)
"""Of the left and of the right half of the scene."""
BREATHING = 0.01
MOST_BLUR_PX = 100.0
_LIMIT_S = 300.0


class Sharpest(nn.Module):
    """Depth from focus without anything learnt: where each pixel's neighbourhood has most detail, softly."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])[None, None])

    def forward(
        self, frames: Tensor, focus_diopters: Tensor, width_per_focal: Tensor, blur_px_per_diopter: Tensor
    ) -> tuple[Tensor, Tensor]:
        grey = frames[0].mean(1, keepdim=True)
        detail = F.conv2d(grey, self.kernel, padding=1)
        sharp = F.avg_pool2d(detail * detail, 9, 1, 4)
        share = sharp / (sharp.sum(0, keepdim=True) + 1e-6)
        weight = torch.softmax(12 * share, 0)
        diopters = (weight * focus_diopters.reshape(-1, 1, 1, 1)).sum(0, keepdim=True)
        told = (1 - width_per_focal) * (1 - blur_px_per_diopter.mean() / MOST_BLUR_PX)
        return 1 / diopters.clamp_min(0.05), share.amax(0, keepdim=True) * told.reshape(-1, 1, 1, 1)


def scene(cells_hw: tuple[int, int]) -> npt.NDArray[np.float64]:
    """(H, W, 3) texture of every size, R, G, B."""
    rng = np.random.default_rng(31)
    height, width = cells_hw
    out = np.zeros((height, width, 3))
    for step in (4, 8, 16):
        coarse = rng.uniform(0, 1, (height // step + 1, width // step + 1, 3))
        out += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(0.05 + 0.15 * out)


def write_frames(folder: Path) -> None:
    """What the camera sees at each stop: planes out of focus are blurred, and the picture breathes."""
    cells = (2 * SIZE_HW[0], 2 * SIZE_HW[1])
    texture = scene(cells)
    left = np.arange(cells[1])[None, :, None] < cells[1] // 2
    for stop, share in zip(STOPS_D, (1.0, 0.9, 1.1, 1.05, 0.95), strict=True):
        blurred = [cv2.GaussianBlur(texture, (0, 0), 0.3 + 1.8 * abs(plane - stop)) for plane in PLANES_D]
        scale = 1 + BREATHING * stop
        centre = (np.array([cells[1], cells[0]]) - 1) / 2
        back = np.column_stack([np.eye(2) / scale, centre - centre / scale])
        seen = exactly_warped(np.where(left, *blurred).transpose(2, 0, 1), back).transpose(1, 2, 0)
        mosaic = np.empty((2 * cells[0], 2 * cells[1]))
        for channel, (row, column) in zip((0, 1, 1, 2), ((0, 0), (0, 1), (1, 0), (1, 1)), strict=True):
            mosaic[row::2, column::2] = seen[..., channel]
        codes = np.rint(512 + 13496 * share * mosaic).clip(0, 65535).astype(np.uint16)
        write_frame_dng(folder / f"{stop}.dng", codes, Crop(0, 0, codes.shape[1], codes.shape[0]))


@dataclass(frozen=True)
class Prepared:
    """What the network is to see, by the host's own way."""

    frames: Tensor
    focus: Tensor


def prepared(folder: Path, diopters: list[float]) -> Prepared:
    """Frames as the host loads, equalises and aligns them, but for the size, which comes first."""
    paths = [folder / f"{stop}.dng" for stop in STOPS_D]
    decoded = [read_light(path) for path in paths]
    light = [light_of(ListedFrame(p, 1.0, 0.01, "", 0), d) for p, d in zip(paths, decoded, strict=True)]
    small = [cv2.resize(d.image, SIZE_HW[::-1], interpolation=cv2.INTER_AREA) for d in decoded]
    images = np.stack([f * np.float32(gain) for f, gain in zip(small, exposure_gains(light), strict=True)])
    distances = np.array([1 / d if d > 0 else np.inf for d in diopters])
    lens = LensModel(6.9, 1.7, 1.0, 1.2)
    aligned, _ = align_stack(FocusStack(images, distances, np.full(len(distances), 0.01), lens))
    linear = torch.from_numpy(np.ascontiguousarray(aligned.frames.transpose(0, 3, 1, 2)))[None]
    said = torch.from_numpy(np.minimum(distances, FARTHEST_M).astype(np.float32))[None]
    return Prepared(*stack_inputs(linear, said))


@pytest.fixture(scope="session")
def exported_stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of that network as a network of its task."""
    frames = torch.rand(len(STOPS_D), 3, *SIZE_HW) * 0.4 + 0.1
    depth_m = torch.full((1, *SIZE_HW), 0.5)
    depth_m[..., SIZE_HW[1] // 2 :] = 1.0
    distances = torch.tensor([1 / d if d else FARTHEST_M for d in STOPS_D])
    samples = tuple(
        eval_sample(FOCUS_STACK, {"frames": frames * k, "focus_distances_m": distances, "depth_m": depth_m})
        for k in (1.0, 0.7)
    )
    evaluation = EvaluationSet(samples, "two stacks of noise", FOCUS_STACK)
    inputs = (("frames", 3), ("focus_diopters", 1), ("width_per_focal", 1), ("blur_px_per_diopter", 1))
    spec = NetworkSpec(
        lambda options: Sharpest(),
        inputs,
        "depth_m",
        1,
        "none",
        task="focus_stack",
        further_outputs=("confidence",),
    )
    folder = tmp_path_factory.mktemp("stack-network")
    model = LoadedModel("sharpest", Sharpest().eval(), spec, {"network": "sharpest"}, folder)
    out = folder / "out"
    export_model(model, out, ["xnnpack-fp32"], evaluation.calibration(), evaluation, rounds=1)
    return out


def start(at: Connected, models: Path, session: str) -> None:
    """Push an export and a plan as a user would, and start the activity; here that is a line to the JVM."""
    scripts = at.phone.java.scripts
    (scripts / "frames").mkdir(exist_ok=True)
    write_frames(scripts / "frames")
    camera = json.loads((scripts / "camera.json").read_text())
    camera["frames"] = [{"file": f"{stop}.dng", "diopters": stop} for stop in STOPS_D]
    camera["camera"]["array_px"] = [4 * SIZE_HW[1], 4 * SIZE_HW[0]]
    (scripts / "camera.json").write_text(json.dumps(camera))
    engine = {"command": [sys.executable, str(DEMO / "double/host_engine.py")]}
    (scripts / "engine.json").write_text(json.dumps(engine))
    phone = phone_at(at.serial)
    for path in models.iterdir():
        if path.is_file():
            phone.write(f"{protocol.FILES}/models/{path.name}", path.read_bytes())
    frames = tuple(protocol.PlanFrame(i, d, 0.02 + 0.01 * d) for i, d in enumerate(STOPS_D))
    plan = protocol.Plan(session, frames, protocol.SettleRule(2, 10, 500, 1), None, 0)
    phone.write(f"{protocol.FILES}/{session}/{protocol.PLAN}", json.dumps(plan.to_json()).encode())
    at.phone.java.command("depth", session)


def answer(at: Connected, session: str) -> dict[str, Any]:
    """``depth.json``, once it is there."""
    phone, end = phone_at(at.serial), time.monotonic() + _LIMIT_S
    while not (content := phone.read_from(f"{protocol.FILES}/{session}/depth.json", 0, 1 << 20)):
        assert time.monotonic() < end, "no answer"
        time.sleep(0.05)
    found: dict[str, Any] = json.loads(content)
    return found


def output(at: Connected, session: str, entry: dict[str, Any]) -> npt.NDArray[np.float32]:
    """Values of an output, over adb."""
    content = phone_at(at.serial).read_from(f"{protocol.FILES}/{session}/{entry['file']}", 0, 1 << 22)
    return np.frombuffer(content, "<f4").reshape(entry["shape"])


def test_a_stack_becomes_metres_on_the_phone(connect: Connect, exported_stack: Path, tmp_path: Path) -> None:
    manifest = json.loads((exported_stack / "manifest.json").read_text())
    kinds = [(t["kind"], t["per_frame"], len(t["shape"])) for t in manifest["input"]["tensors"]]
    assert kinds == [("picture", True, 5), ("scalar", True, 2), ("scalar", False, 1), ("scalar", True, 2)]
    with connect() as at:
        start(at, exported_stack, "depth-1")
        found = answer(at, "depth-1")
        assert found["error"] is None and found["metric"] and found["notes"] == []
        outputs = {entry["name"]: output(at, "depth-1", entry) for entry in found["outputs"]}
        full = output(at, "depth-1", found["full"])
        frames_there = sorted(path.name for path in at.phone.local(f"{protocol.FILES}/depth-1").glob("frame_*.dng"))
        picture = at.phone.local(f"{protocol.FILES}/depth-1/depth.png")
        (tmp_path / "depth.png").write_bytes(picture.read_bytes() if picture.exists() else b"")
        seen = prepared(at.phone.java.scripts / "frames", [frame["diopters"] for frame in found["frames"]])
        camera = json.loads((at.phone.java.scripts / "camera.json").read_text())["camera"]
        taken = json.loads(at.phone.local(f"{protocol.FILES}/depth-1/{protocol.STACK}").read_text())
    assert len(frames_there) == len(STOPS_D), "what was taken stays"
    focus = [frame["diopters"] for frame in found["frames"]]
    assert focus == sorted(focus) and np.abs(np.array(focus) - STOPS_D).max() < 0.02
    assert all(frame["trusted"] for frame in found["frames"]) and found["linear"]
    assert found["beta"] == pytest.approx(BREATHING / (1 + 4 * BREATHING), abs=1e-3)
    # two colour pixels to one of the network, each of two of the sensor
    width_mm = 4 * SIZE_HW[1] * camera["pixel_pitch_um"] / 1000
    with torch.no_grad():
        focal = torch.tensor([camera["focal_length_mm"]])
        numbers = {frame["f_number"] for frame in taken["frames"]}
        lens = focal, torch.tensor([numbers.pop()]), torch.tensor([4 * camera["pixel_pitch_um"]])
        assert not numbers, "one aperture"
        blur = blur_px_per_diopter(seen.focus, *lens)
        assert 1 < blur.min() < blur.max() < MOST_BLUR_PX
        depth_m, confidence = Sharpest()(seen.frames, seen.focus, width_mm / focal, blur)
    assert set(outputs) == {"depth_m", "confidence"}
    apart_d = np.abs(1 / outputs["depth_m"] - 1 / depth_m.numpy())
    assert np.median(apart_d) < 0.01 and np.percentile(apart_d, 99) < 0.1
    assert np.abs(outputs["confidence"] - confidence.numpy()).max() < 0.1
    halves = np.split(1 / outputs["depth_m"][0, 0], 2, axis=1)
    for half, plane in zip(halves, PLANES_D, strict=True):
        assert np.median(half) == pytest.approx(plane, abs=0.3)
    assert full.shape == (2 * SIZE_HW[0], 2 * SIZE_HW[1])
    assert np.median(np.abs(1 / full[::2, ::2] - 1 / outputs["depth_m"][0, 0])) < 0.05


def test_a_phone_whose_focus_is_not_calibrated_gives_no_metres(connect: Connect, exported_stack: Path) -> None:
    with connect() as at:
        path = at.phone.java.scripts / "camera.json"
        script = json.loads(path.read_text())
        script["camera"]["calibration"] = "UNCALIBRATED"
        path.write_text(json.dumps(script))
        start(at, exported_stack, "depth-2")
        found = answer(at, "depth-2")
    assert not found["metric"] and "(no metres)" in found["said"]
    assert found["notes"] == ["this phone does not calibrate its focus distances: depths are in order, but no metres"]
