from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dualpix.export.artefact import quiet
from dualpix.export.executorch.stored import save_record
from dualpix.export.executorch.xnnpack import lower_with_record

SHAPE = (1, 3, 24, 32)


class Small(nn.Module):
    """Convolutions and a matrix product in a delegate, one operator that stays outside (cumsum)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, 1, 1), nn.ReLU())
        self.deep = nn.Conv2d(channels, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cumsum(self.deep(self.stem(x)), 3)


@dataclass(frozen=True)
class SmallFiles:
    folder: Path
    narrow: Path
    """With a record."""
    wide: Path
    """Without."""


@pytest.fixture(scope="session")
def small_files(tmp_path_factory: pytest.TempPathFactory) -> SmallFiles:
    folder: Path = tmp_path_factory.mktemp("small")
    files = SmallFiles(folder, folder / "narrow.pte", folder / "wide.pte")
    for path, channels in ((files.narrow, 8), (files.wide, 64)):
        with quiet(), torch.no_grad():
            exported = torch.export.export(Small(channels).eval(), (torch.rand(SHAPE),))
            buffer, record, _ = lower_with_record(exported)
        path.write_bytes(buffer)
        if channels == 8:
            save_record(record, path.with_suffix(".etrecord"))
    return files
