"""The module of the search answers under its old name, and its package imports no torch by itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

import dualpix.quantize.search as new
import dualpix.quantize.sensitivity as old


@pytest.mark.parametrize("name", new.__all__)
def test_an_old_name_gives_the_same_object_and_a_warning(name: str) -> None:
    expected = getattr(new, name)
    with pytest.warns(DeprecationWarning, match=f"import {name} from dualpix.quantize.search") as seen:
        found = getattr(old, name)
    assert found is expected
    assert seen[0].filename == __file__


def test_the_command_imports_no_torch() -> None:
    program = "import sys, dualpix.quantize.search.cli, dualpix.quantize.limits; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
