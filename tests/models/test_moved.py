"""Modules of models that moved answer under their old names; packages offer their names without importing torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

MOVED = [
    ("image_losses", "losses.image", "halves_loss"),
    ("metres", "predict.metres", "measured_depth"),
    ("reblur", "losses.reblur", "reblur"),
    ("stack_network", "stacks.network", "predict_stack"),
    ("validation", "evaluate.validation", "validation_scenes"),
]
OFFERING = ("evaluate", "predict", "train", "zoo")


@pytest.mark.parametrize(("old", "new", "name"), MOVED)
def test_an_old_name_gives_the_same_object_and_a_warning(old: str, new: str, name: str) -> None:
    before, expected = import_module(f"dualpix.models.{old}"), getattr(import_module(f"dualpix.models.{new}"), name)
    with pytest.warns(DeprecationWarning, match=f"import {name} from dualpix.models.{new}") as seen:
        found = getattr(before, name)
    assert found is expected
    assert seen[0].filename == __file__


@pytest.mark.parametrize("room", OFFERING)
def test_a_package_offers_what_its_modules_hold(room: str) -> None:
    package = import_module(f"dualpix.models.{room}")
    assert package.__file__ is not None
    stated = {
        alias.name: node.module
        for node in ast.walk(ast.parse(Path(package.__file__).read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"dualpix.models.{room}.")
        for alias in node.names
    }
    assert sorted(stated) == sorted(package.__all__)
    for name, module in stated.items():
        assert getattr(package, name) is getattr(import_module(module), name)
    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        getattr(package, "nothing_of_this_name")  # noqa: B009


@pytest.mark.parametrize("room", OFFERING)
def test_no_name_is_that_of_a_module(room: str) -> None:
    package = import_module(f"dualpix.models.{room}")
    assert package.__file__ is not None
    assert not {path.stem for path in Path(package.__file__).parent.iterdir()} & set(package.__all__)


def test_the_commands_and_cards_of_models_import_no_torch() -> None:
    program = (
        "import sys, dualpix.models.shot, dualpix.models.zoo as zoo\n"
        "from dualpix.models import evaluate, predict, train\n"
        "from dualpix.models.evaluate import cli as a, protocol_names\n"
        "from dualpix.models.predict import cli as b\n"
        "from dualpix.models.train import cli as c\n"
        "assert zoo.known_models()\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
