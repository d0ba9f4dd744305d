"""Training needs PyTorch alone: neither exporters nor raw decoders are imported on its way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_NOT_FOR_TRAINING = ("executorch", "torchao", "coremltools", "rawpy")
_PROGRAM = """
import sys
from dualpix.capture.cli import main
try:
    main(sys.argv[1:])
finally:
    found = sorted({name.split(".")[0] for name in sys.modules} & set(%r))
    print("imported:", ", ".join(found), file=sys.stderr)
"""


def test_a_run_imports_no_exporter_and_no_raw_decoder(tmp_path: Path) -> None:
    arguments = [
        "train", "-o", str(tmp_path / "run"), "--steps", "1", "--batch-size", "1", "--samples", "1",
        "--eval-samples", "1", "--workers", "0", "--device", "cpu",
    ]  # fmt: skip
    command = [sys.executable, "-c", _PROGRAM % (_NOT_FOR_TRAINING,), *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr.rstrip().endswith("imported:"), done.stderr
