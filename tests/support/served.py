"""Cameras of every kind to capture with: each a process behind its own protocol, hiding a lens and a scene."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dualpix.capture.cameras.hidden.lens import lens_truth
from dualpix.capture.cameras.testing.known import known_calibration
from dualpix.capture.cameras.testing.process import ServerProcess

KINDS = ("sim", "canon", "ccapi", "android")
TRUTH = "truth.jsonl"
_LENS = "Hidden 50mm F1.8"
_TESTING = "dualpix.capture.cameras.testing"


@contextmanager
def camera_arguments(kind: str, folder: Path, seed: int, env: dict[str, str]) -> Iterator[list[str]]:
    """What `dualpix capture` needs to reach a camera of this kind; ``folder/truth.jsonl`` gets its hidden truth.

    Args:
        kind: of ``KINDS``.
        folder: for everything; existing.
        seed: of lens and scene.
        env: of the command, changed so that it touches nothing of the user's.
    """
    env.update({"DUALPIX_DATA": str(folder), "HOME": str(folder), "XDG_CONFIG_HOME": str(folder)})
    calibration = folder / "lens.json"
    calibration.write_text(json.dumps(known_calibration(lens_truth(seed), lens=_LENS).to_json()))
    stepping = ["--calibration", str(calibration)]  # phones know their own distance
    state = ("--seed", str(seed), "--state", str(folder / TRUTH))
    if kind == "sim":
        yield ["--camera", kind, "--address", f"sim:{seed}", "--option", f"state={folder / TRUTH}", *stepping]
    elif kind == "android":
        adbd = importlib.import_module(f"{_TESTING}.adbd")
        with adbd.PrivateAdb(folder) as adb, ServerProcess(f"{_TESTING}.adbd", *state) as server:
            serial = str(server.said["serial"])
            adb.client().connect(serial)
            env["ANDROID_ADB_SERVER_PORT"] = str(adb.port)
            yield ["--camera", kind, "--address", serial]
    else:
        with ServerProcess(f"{_TESTING}.{'eos' if kind == 'canon' else kind}", *state) as server:
            address = str(server.said["url"]) if kind == "ccapi" else f"ptpip:127.0.0.1:{server.port}"
            yield ["--camera", kind, "--address", address, *stepping]
