"""How the depth of focus stacks is found, from what is asked for; looked at before torch is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from dualpix.capture.errors import DualpixError
from dualpix.capture.stack.depth.focus_depth import Method
from dualpix.models.zoo.cards import DEFAULT_STACK_MODEL, known_models, model_folder

if TYPE_CHECKING:
    from dualpix.capture.types import FocusStack
    from dualpix.models.stacks.depth import StackOptions
    from dualpix.models.stacks.network import StackPrediction
    from dualpix.models.zoo import LoadedModel


def stack_options(
    method: Method | None,
    model: str | None,
    sizes_px: tuple[int, ...],
    lens: Mapping[str, float],
    truth: Path | None = None,
) -> StackOptions:
    """How the depth of focus stacks is found, from what was asked for.

    Args:
        method: None where none was named: a network then, with the method "blur" beside it.
        model: None where none was named: the shipped one, unless a method was named.
        sizes_px: at which a network works; empty for its own.
        lens: ``focal_length_mm`` and ``pixel_pitch_um`` that the stack lacks; ``f_number``: which of its apertures.
        truth: depth of the one stack.

    Raises:
        DualpixError: no such model, or several sizes.
    """
    from dualpix.models.stacks.depth import StackOptions

    own = {name: value for name, value in lens.items() if name != "f_number"}
    chosen = StackOptions(method or "blur", lens.get("f_number"), truth, lens=own)
    network = stack_network(method, model)
    return chosen if network is None else _with_network(chosen, network, sizes_px, named=model is not None)


def stack_network(method: str | None, model: str | None) -> str | None:
    """Which network finds the depth of stacks: the one that was named, else the shipped one, unless a method was."""
    if model is not None:
        return model
    return DEFAULT_STACK_MODEL if method is None and DEFAULT_STACK_MODEL in known_models() else None


def _with_network(options: StackOptions, model: str, sizes_px: tuple[int, ...], *, named: bool) -> StackOptions:
    """Focus stacks by a network; one that nobody named is read when the first stack needs it, and torch with it."""
    if len(sizes_px) > 1:
        raise DualpixError(f"{len(sizes_px)} working sizes for a focus stack", expected="one")
    model_folder(model)
    network = _StackNetwork(model, sizes_px)
    name = network.loaded.name if named else model
    return replace(options, network=network, network_name=name, named=named)


class _StackNetwork:
    """See :class:`dualpix.models.stacks.depth.StackNetwork`."""

    def __init__(self, model: str, sizes_px: tuple[int, ...]) -> None:
        self._model, self._sizes_px = model, sizes_px

    @cached_property
    def loaded(self) -> LoadedModel:
        """The network."""
        from dualpix.models.stacks.network import check_stack_model
        from dualpix.models.zoo import load_model

        loaded = load_model(self._model)
        check_stack_model(loaded)
        return loaded

    def __call__(self, stack: FocusStack, *, blur_px_per_d: float | None) -> StackPrediction:
        from dualpix.models.stacks.network import predict_stack

        side = self._sizes_px[0] if self._sizes_px else None
        return predict_stack(stack, self.loaded, blur_px_per_d=blur_px_per_d, working_long_side_px=side)
