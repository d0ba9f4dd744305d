"""What is to be said of a stack and of its depth beside the map: what is missing, odd, or less sure than it looks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dualpix.capture.stack.depth.focus_depth import CONFIDENT, FocusDepth
from dualpix.capture.stack.judge.align import Alignment
from dualpix.capture.types import FloatImage, FocusStack

LITTLE = 0.1
"""Share of measured pixels below which it is said that most of the map is filled in."""
_MOST_NAMED = 4
_NEARLY_ALL = 0.95
"""Of the measured pixels: sharpest at one end of the sweep."""
_AT_THE_END_STEPS = 0.25
_OPTICS = {"focal_length_mm": "focal length", "f_number": "f-number", "pixel_pitch_um": "pixel pitch"}


def strangers(stack: FocusStack, alignment: Alignment) -> list[str]:
    """Frames that do not match their neighbours although most do: another scene, or a moved camera."""
    odd = [place for place, good in enumerate(alignment.trusted) if not good]
    if not odd or 2 * len(odd) >= len(alignment.trusted):
        return []
    named = ", ".join(f"'{stack.names[place]}'" for place in odd[:_MOST_NAMED])
    return [f"{named} could not be matched with the other frames: look at the stack with dualpix capture verify"]


def little_measured(measured_fraction: float) -> list[str]:
    """Where most of the map is a guess."""
    if measured_fraction >= LITTLE:
        return []
    return [f"{measured_fraction:.1%} of the pixels were measured, the rest is filled in from them"]


def lens_unknown(stack: FocusStack, *, network: bool) -> list[str]:
    """What of the optics nothing says, and what was done without it."""
    missing = [words for name, words in _OPTICS.items() if not math.isfinite(getattr(stack.lens, name))]
    if not missing or stack.focus_distance_m is None:
        return []
    instead = "how much blur a diopter makes was found from the frames"
    if network and missing != [_OPTICS["f_number"]]:
        instead += ", and the network takes the usual angle of view"
    hint = "--focal-length-mm and --pixel-pitch-um say it, and --f-number of dualpix capture import"
    return [f"nothing says the {' and '.join(missing)}: {instead}; {hint}"]


def beyond_the_sweep(stack: FocusStack, result: FocusDepth) -> list[str]:
    """Where nearly all that was measured is sharpest in the first frame, or in the last: what lies farther, or nearer,
    than that frame looks the same."""
    sweep, measured = stack.sweep, result.confidence >= CONFIDENT
    if not measured.any():
        return []
    near_enough = _AT_THE_END_STEPS * float(np.median(np.diff(sweep)))
    places = result.diopters[measured]
    ends = ((float(np.mean(places < sweep[0] + near_enough)), 0, "farther"),
            (float(np.mean(places > sweep[-1] - near_enough)), len(sweep) - 1, "nearer"))  # fmt: skip
    for share, place, where in ends:
        if share >= _NEARLY_ALL:
            named = f" '{stack.names[place]}'" if stack.names else ""
            end = "farthest" if place == 0 else "nearest"
            return [
                f"{share:.0%} of what was measured is sharpest in the {end} frame{named}, at {_metres(sweep[place])}: "
                f"sharpness has no peak there, and what is {where} looks the same; take frames that are focused {where}"
            ]
    return []


def thinned_out(stack: FocusStack, shown: Sequence[int]) -> list[str]:
    """Which frames of many a network was shown."""
    if len(shown) == len(stack.frames):
        return []
    named = ", ".join(_frame_named(stack, place) for place in shown)
    return [f"of {len(stack.frames)} frames the network was shown {len(shown)}: {named}"]


def differs(stack: FocusStack, network_m: FloatImage, method: FocusDepth) -> tuple[float | None, list[str]]:
    """Median difference in diopters between a network and the method where the method is sure, and a word where it is
    more than a step between frames: one of both is wrong then. None where the method is sure nowhere."""
    sure = method.confidence >= CONFIDENT
    if not sure.any():
        return None, []
    apart = float(np.median(np.abs(1 / network_m[sure] - np.maximum(method.diopters[sure], 0))))
    step = float(np.median(np.diff(stack.sweep)))
    if apart <= step:
        return apart, []
    return apart, [
        f"the network and '{method.method}' differ by {apart:.3g} D in the middle, more than the {step:.3g} D between "
        "frames, where that is sure: do not trust the network on this stack without a look at both maps"
    ]


def gave_way(network: str, method: str) -> str:
    """That the method's map is the result, although there is a network."""
    return (
        f"'{network}' and '{method}' differ by more than a step between frames where '{method}' is sure: the result is "
        f"the latter's, the former's is depth_m_{network}.tiff; --model {network} takes it all the same"
    )


def _frame_named(stack: FocusStack, place: int) -> str:
    return f"'{stack.names[place]}'" if stack.names else f"number {place + 1}"


def _metres(diopters: float) -> str:
    return "infinity" if diopters <= 1e-4 else f"{1 / diopters:.3g} m"
