"""Methods by name, for each kind of data: what `dualpix evaluate --method` takes.

A method is ``Callable[[Sample], Prediction]`` and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from dualpix.capture.errors import DualpixError
from dualpix.capture.pictures.display import srgb_from_linear
from dualpix.capture.stack.depth import focus_depth
from dualpix.capture.types import DualPixelImage, FloatImage
from dualpix.models.evaluate.protocol import Protocol
from dualpix.models.evaluate.protocol_names import METHODS
from dualpix.models.evaluate.sample import Method, Prediction, Sample
from dualpix.models.predict.disparity import (
    estimate,
    match_disparity,
    predict_affine,
    predict_disparity,
    zncc_estimator,
)
from dualpix.models.predict.working import DisparityMap
from dualpix.models.samples import SHARP
from dualpix.models.stacks.network import check_stack_model, predict_stack
from dualpix.models.tasks.dual_pixel_affine import AFFINE
from dualpix.models.zoo import LoadedModel
from dualpix.models.zoo.cards import DEFAULT_MODEL, DEFAULT_STACK_MODEL
from dualpix.models.zoo.programs import is_program, load_any

NETWORK = "network"
"""The method that is one row for each model."""

PairMethod = Callable[[DualPixelImage], DisparityMap]


@dataclass(frozen=True)
class Choice:
    """What methods need to know beside their names."""

    models: Sequence[str]
    """Those that the user named: each is scored. Where a network is asked for and none is named, the default one."""
    working_sizes_px: tuple[int, ...] = ()

    def networks(self, default: str = DEFAULT_MODEL) -> Sequence[str]:
        """Of the method ``network``, each once."""
        return tuple(dict.fromkeys(self.models)) or (default,)

    def sizes_of(self, model: LoadedModel) -> tuple[int, ...]:
        """The working sizes of a model: a program has its own, also beside networks for which some were given."""
        return self.working_sizes_px if model.size_hw is None else ()


def of_pair(predict: PairMethod) -> Method:
    """A method of dual-pixel pairs as one of samples."""

    def method(sample: Sample) -> Prediction:
        assert sample.pair is not None  # noqa: S101 - protocols say what their samples are
        found = predict(sample.pair)
        confidence = None if found.judgement is None else found.judgement.confidence
        return Prediction(found.disparity_px, "disparity_px", confidence, found.sharp)

    return method


def of_stack(method: focus_depth.Method) -> Method:
    """Classical depth from focus, on the stack as it is: its frames are aligned."""

    def run(sample: Sample) -> Prediction:
        assert sample.stack is not None  # noqa: S101
        found = focus_depth.depth_from_focus(sample.stack, method)
        return Prediction(found.depth_m, "depth_m", found.confidence)

    return run


def blurred_input(sample: Sample) -> Prediction:
    """The full-aperture picture as it came: what a sharper one has to beat."""
    assert sample.pair is not None  # noqa: S101
    return Prediction(_shown(sample.pair.combined), "image")


def sharp_picture(predict: PairMethod, sample: Sample) -> Prediction:
    """The picture in focus everywhere that a network gives beside its disparity."""
    assert sample.pair is not None  # noqa: S101
    found = predict(sample.pair).sharp
    assert found is not None  # noqa: S101 - the model was looked at
    return Prediction(_shown(found), "image")


def _shown(light: FloatImage) -> FloatImage:
    """(H, W, 3) with the sRGB curve."""
    colour = light if light.ndim == 3 else np.repeat(light[..., None], 3, axis=2)
    return srgb_from_linear(np.clip(colour, 0, 1))


def free_label(names: Sequence[str], taken: Collection[str]) -> str:
    """The first of a row's names that neither another row nor a classical method has; the last one in any case."""
    return next((name for name in names if name not in taken and name not in METHODS), names[-1])


def _label(model: LoadedModel, given: str, taken: Collection[str]) -> str:
    """Folders may share their last name, with one another or with a method: then as the user named it."""
    return free_label((model.name, given, f"{NETWORK} {given}"), taken)


def _sharp_networks(choice: Choice) -> dict[str, Method]:
    runs: dict[str, Method] = {}
    for name in choice.networks():
        model = load_any(name)
        if SHARP not in model.spec.outputs:
            raise DualpixError(
                f"model '{model.name}' gives no sharp picture", expected="one that does, of network dddnet"
            )
        predict = partial(predict_disparity, model=model, working_long_side_px=choice.sizes_of(model) or None)
        runs[_label(model, name, runs)] = partial(sharp_picture, predict)
    return runs


def _networks(choice: Choice) -> dict[str, Method]:
    runs: dict[str, Method] = {}
    for name in choice.networks():
        model = load_any(name)
        label, sizes = _label(model, name, runs), choice.sizes_of(model)
        if model.spec.output == AFFINE:
            runs[label] = _affine(model, sizes)
            continue
        runs[label] = of_pair(partial(predict_disparity, model=model, working_long_side_px=sizes or None))
    return runs


def _affine(model: LoadedModel, sizes_px: tuple[int, ...]) -> Method:
    if len(sizes_px) > 1:
        raise DualpixError(
            f"{len(sizes_px)} working sizes for '{model.name}', which gives {AFFINE}",
            expected="one: maps that are known up to scale and offset have no mean",
        )

    def method(sample: Sample) -> Prediction:
        assert sample.pair is not None  # noqa: S101 - protocols say what their samples are
        found = predict_affine(sample.pair, model, working_long_side_px=sizes_px[0] if sizes_px else None)
        return Prediction(found, "affine")

    return method


def _stack_networks(choice: Choice) -> dict[str, Method]:
    sizes = choice.working_sizes_px
    if len(sizes) > 1:
        raise DualpixError(f"{len(sizes)} working sizes for focus stacks", expected="one")
    runs: dict[str, Method] = {}
    for name in choice.networks(DEFAULT_STACK_MODEL):
        model = load_any(name)
        check_stack_model(model)
        runs[_label(model, name, runs)] = partial(_stack_network, model, sizes[0] if sizes else None)
    return runs


def _stack_network(model: LoadedModel, side_px: int | None, sample: Sample) -> Prediction:
    assert sample.stack is not None  # noqa: S101 - protocols say what their samples are
    found = predict_stack(sample.stack, model, working_long_side_px=side_px)
    return Prediction(found.depth_m, "depth_m", found.confidence)


_Makers = dict[str, Callable[[Choice], dict[str, Method]]]
PAIR: _Makers = {
    "sgbm": lambda choice: {"sgbm": of_pair(match_disparity)},
    "zncc": lambda choice: {"zncc": of_pair(partial(estimate, estimator=zncc_estimator(), method="zncc"))},
    NETWORK: _networks,
}
STACK: _Makers = {name: partial(lambda name, choice: {name: of_stack(name)}, name) for name in focus_depth.METHODS} | {
    NETWORK: _stack_networks
}
IMAGE: _Makers = {"input": lambda choice: {"input": blurred_input}, NETWORK: _sharp_networks}


def _known(protocol: Protocol) -> tuple[_Makers, tuple[str, ...]]:
    """Methods that fit, and those that run by default."""
    if protocol.unit == "image":
        return IMAGE, ("input",)
    return (STACK, ("blur", "argmax")) if protocol.takes == "stack" else (PAIR, ("sgbm", NETWORK))


def methods_for(protocol: Protocol, names: Sequence[str] | None, choice: Choice) -> dict[str, Method]:
    """The methods of these names, or those that run by default, by the label that tables show.

    Models that are named run in any case, beside the others.

    Raises:
        DualpixError: one does not fit the protocol, a model does not load, or a working size has no network.
    """
    known, default = _known(protocol)
    wanted = tuple(default if names is None else names)
    if choice.models and NETWORK not in wanted:
        wanted = (*wanted, NETWORK)
    programs = bool(choice.models) and all(map(is_program, choice.models))
    if choice.working_sizes_px and programs:
        raise DualpixError(
            "a working size was given, and only exported programs work", expected="networks with it: a program has one"
        )
    if choice.working_sizes_px and NETWORK not in wanted:
        raise DualpixError(
            "a working size was given, and no network works at it", expected="--model, or network among the methods"
        )
    unfit = [name for name in names or () if name not in known]
    if unfit:
        what = "a sharp picture" if protocol.unit == "image" else f"a {protocol.takes}"
        raise DualpixError(
            f"method '{unfit[0]}' with {protocol.name}, which is about {what}", expected=f"one of: {', '.join(known)}"
        )
    runs: dict[str, Method] = {}
    for name in wanted:
        runs |= known[name](choice)
    return runs
