from __future__ import annotations

import importlib
import json

import pytest
from click.testing import CliRunner

from dualpix.capture.errors import UnknownNameError
from dualpix.export.command.cli import command
from dualpix.export.recipes import DEFAULT_RECIPES, RECIPES, find_recipe


def test_names_say_backend_and_precision() -> None:
    for name, recipe in RECIPES.items():
        assert name == recipe.name and name.endswith(recipe.precision)
        folders = {"dualpix.export.coreml": ".mlpackage", "dualpix.export.coreai": ".aimodel"}
        assert recipe.suffix == folders.get(recipe.backend, ".pte")
        assert len(recipe.text) < 60


def test_what_is_made_unasked_stays_few() -> None:
    assert DEFAULT_RECIPES == ("xnnpack-fp32", "xnnpack-int8", "coreml-fp16", "coreml-w8")


@pytest.mark.parametrize("backend", sorted({r.backend for r in RECIPES.values()}))
def test_a_backend_has_the_functions_of_a_backend(backend: str) -> None:
    module = importlib.import_module(backend)
    for name in ("build", "can_build", "can_run", "load"):
        assert callable(getattr(module, name)), name
    for answer in (module.can_build(), module.can_run()):
        assert answer is None or (answer and "\n" not in answer)


def test_less_is_asked_of_coarser_precisions() -> None:
    ask = {name: recipe.limits.sqnr_db or 0 for name, recipe in RECIPES.items()}
    assert ask["xnnpack-fp32"] > ask["xnnpack-fp16"] > ask["xnnpack-int8-mixed"] > ask["xnnpack-4w8da"] > 0


def test_an_unknown_recipe_lists_the_known() -> None:
    with pytest.raises(UnknownNameError, match="unknown recipe 'onnx'; expected one of: coreai-fp16"):
        find_recipe("onnx")


def test_the_list_answers_for_this_machine() -> None:
    listed = json.loads(CliRunner().invoke(command, ["--list", "--json"]).stdout)["recipes"]
    assert set(listed) == set(RECIPES)
    assert listed["xnnpack-int8"]["runs_here"] and listed["xnnpack-int8"]["needs"] == ""
    for entry in listed.values():
        assert entry["builds_here"] or not entry["runs_here"]
        assert bool(entry["needs"]) == (not (entry["builds_here"] and entry["runs_here"]))
