"""Why a compiler or converter refused a network, in one line: what it says, and the line or layer it means.

PyTorch, ExecuTorch and coremltools raise many kinds of errors. The user's line stands in the text of some
(``torch.export``), among the frames of others, and some name but an operator, which is then looked up in the graph.
"""

from __future__ import annotations

import re
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import fx, nn

import dualpix
from dualpix.export.bound import own_path
from dualpix.quantize.calibration import Inputs
from dualpix.quantize.keep import module_path

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in ')
_OPERATOR = re.compile(
    r"located at: '(\w+)'|fx node (\w+)|While executing %(\w+)|\baten[.:]+(\w+)|\bnode (\w+) \(|converting '(\w+)' op"
)
_MAX_LINE = 300
_LIBRARIES = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platlib", "purelib")}
_OURS = {Path(folder).resolve() for folder in dualpix.__path__}
"""The parts of the namespace, and nothing beside them: in a checkout a user's network may lie there."""


def reason_of(error: Exception, module: nn.Module, inputs: Inputs, said: str = "") -> str:
    """What ``error`` says and where that is.

    Args:
        error: that a compiler raised.
        module: that it was given.
        inputs: that the module takes.
        said: what the compiler wrote to its log, if anything.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    text = f"{type(error).__name__}: {lines[0][:_MAX_LINE]}".rstrip(': ".')
    where = _line_in(str(error)) or _line_of(error) or _layer_in(f"{said}\n{error}", module, inputs)
    return f"{text}; {where}" if where else text


def _line_in(text: str) -> str:
    """The innermost line of the user's in a text."""
    frames = [(m["file"], m["line"]) for m in _FRAME.finditer(text) if _is_users(m["file"])]
    return f"at {Path(frames[-1][0]).name}:{frames[-1][1]}" if frames else ""


def _line_of(error: BaseException) -> str:
    """The innermost line of the user's among the frames of an error."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_users(f.filename)]
    return f"at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def _is_users(file: str) -> bool:
    """Not Python's, a package's or ours."""
    if file.startswith("<"):
        return False
    path = Path(file).resolve()
    return "site-packages" not in path.parts and not any(map(path.is_relative_to, _LIBRARIES | _OURS))


def _layer_in(text: str, module: nn.Module, inputs: Inputs) -> str:
    """The first operator that a text names and the graph has, with its submodule and line."""
    names = [next(filter(None, found)) for found in _OPERATOR.findall(text)]
    if not names:
        return ""
    try:
        exported = torch.export.export(module, inputs)
        graphs = [exported.graph, exported.run_decompositions().graph]  # the operator's own name, or the user's for it
    except Exception:  # what cannot be exported has been told already
        return ""
    nodes = [[n for n in graph.nodes if n.op == "call_function"] for graph in graphs]
    return next((_told(node, module) for some in nodes for name in names for node in _called(some, name)), "")


def _called(nodes: list[fx.Node], name: str) -> Iterator[fx.Node]:
    yield from (node for node in nodes if node.name == name)
    plain = name.strip("_")
    yield from (node for node in nodes if str(node.target).split(".")[1:2] == [name] or node.name.startswith(plain))


def _told(node: fx.Node, module: nn.Module) -> str:
    path = own_path(module, re.sub(r"@\d+", "", module_path(node)))
    line = _line_in(str(node.meta.get("stack_trace") or "")).removeprefix("at ")
    operator = str(node.target).removeprefix("aten.").split(".")[0]
    where = f"in '{path}'" if path else "in the module's own forward"
    return f"operator {operator} {where}" + (f" ({line})" if line else "")
