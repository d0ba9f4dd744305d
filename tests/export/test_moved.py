"""Modules of export that moved answer under their old names; packages offer their names without importing torch."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

MOVED = [
    ("profile.stored", "executorch.stored", "read_record"),
    ("states", "own.states", "states_as_inputs"),
]


@pytest.mark.parametrize(("old", "new", "name"), MOVED)
def test_an_old_name_gives_the_same_object_and_a_warning(old: str, new: str, name: str) -> None:
    before, expected = import_module(f"dualpix.export.{old}"), getattr(import_module(f"dualpix.export.{new}"), name)
    with pytest.warns(DeprecationWarning, match=f"import {name} from dualpix.export.{new}") as seen:
        found = getattr(before, name)
    assert found is expected
    assert seen[0].filename == __file__


@pytest.mark.parametrize("room", ["flow", "verify"])
def test_a_package_offers_what_its_modules_hold(room: str) -> None:
    package = import_module(f"dualpix.export.{room}")
    assert package.__file__ is not None
    assert all(hasattr(package, name) for name in package.__all__)
    assert not {path.stem for path in Path(package.__file__).parent.iterdir()} & set(package.__all__)


def test_commands_import_no_torch() -> None:
    program = (
        "import sys\n"
        "import dualpix.export.command.cli, dualpix.export.demo.cli, dualpix.export.report.cli\n"
        "import dualpix.export.verify.cli, dualpix.export.profile.cli, dualpix.export.android.cli\n"
        "from dualpix.export.verify import verify\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
