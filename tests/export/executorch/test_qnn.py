from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.tiny_net import scene, tiny_net

from dualpix.export.artefact import BuildRequest, ExportError
from dualpix.export.executorch import qnn
from dualpix.quantize.calibration import CalibrationSet


def _request(path: Path, precision: str = "fp16") -> BuildRequest:
    inputs = scene()
    names = ("image", "left", "right")
    return BuildRequest(tiny_net(), precision, path, inputs, names, ("disparity_px",), CalibrationSet((inputs,), ""))


def test_without_the_sdk_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(qnn.SDK_VARIABLE, raising=False)
    assert "install the Qualcomm AI Engine Direct SDK" in str(qnn.can_build())
    with pytest.raises(ExportError, match=r"cannot be produced here; QNN_SDK_ROOT is not set: install"):
        qnn.build(_request(tmp_path / "a.pte"))
    monkeypatch.setenv(qnn.SDK_VARIABLE, str(tmp_path))
    assert "has no lib/x86_64-linux-clang/libQnnHtp.so" in str(qnn.can_build())
    with pytest.raises(ExportError, match="no precision 'w8'"):
        qnn.build(_request(tmp_path / "a.pte", "w8"))
    assert not list(tmp_path.iterdir())
    assert "Snapdragon" in str(qnn.can_run())


def test_asking_touches_none_of_the_vendor_code() -> None:
    """Its import downloads the SDK or switches oneDNN off, depending on the release."""
    code = (
        "import sys, torch; from dualpix.export.executorch import qnn; qnn.can_build(), qnn.can_run();"
        "assert not [m for m in sys.modules if 'qualcomm' in m]; assert torch.backends.mkldnn.enabled"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
