"""``package.module:function``, as a user names a function of their own: its form, and the function itself."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dualpix.capture.errors import DualpixError

_SPEC = re.compile(r"(?P<module>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):(?P<function>[A-Za-z_]\w*)")
FORM = "package.module:function"


def is_named(text: str) -> bool:
    """Whether ``text`` has the form ``package.module:function``."""
    return _SPEC.fullmatch(text) is not None


def function_name(text: str) -> str:
    """What stands after the colon.

    Raises:
        DualpixError: another form.
    """
    return _match(text)["function"]


def check_findable(text: str) -> None:
    """Whether Python finds the outermost package, without importing it: an answer before torch is there.

    Raises:
        DualpixError: it does not, or ``text`` has another form.
    """
    module = _match(text)["module"]
    _working_folder_first()
    package = module.split(".")[0]
    try:
        found = importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # imported before, without a spec: the import itself will tell
        found = True
    if not found:
        raise _not_imported(module, f"ModuleNotFoundError: No module named '{package}'")


def load_named(text: str) -> Callable[..., Any]:
    """Import ``package.module`` (the working folder comes first) and take its function.

    This runs the user's own code, as ``python -m package.module`` would.

    Raises:
        DualpixError: it cannot be imported, or has no such function.
    """
    match = _match(text)
    module, name = match["module"], match["function"]
    _working_folder_first()
    try:
        function = getattr(importlib.import_module(module), name, None)
    except Exception as error:  # the user's module raises anything
        raise _not_imported(module, f"{type(error).__name__}: {error}") from error
    if not callable(function):
        raise DualpixError(f"'{module}' has no function '{name}'", expected=FORM)
    loaded: Callable[..., Any] = function
    return loaded


def call_named(text: str) -> Any:
    """What the named function gives.

    Raises:
        DualpixError: it cannot be imported, or fails.
    """
    function = load_named(text)
    try:
        return function()
    except Exception as error:  # the user's code raises anything
        raise DualpixError(
            f"{text}() fails: {type(error).__name__}: {error}", hint="--debug shows the traceback"
        ) from error


def _match(text: str) -> re.Match[str]:
    match = _SPEC.fullmatch(text)
    if match is None:
        raise DualpixError(f"'{text}'", expected=FORM)
    return match


def _working_folder_first() -> None:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def _not_imported(module: str, reason: str) -> DualpixError:
    return DualpixError(
        f"'{module}' cannot be imported: {reason}", expected="a module that Python finds from the working folder"
    )
