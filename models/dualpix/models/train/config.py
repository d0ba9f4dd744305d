"""What a training run is: everything that its result depends on, as data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from dualpix.capture.errors import DualpixError, UnknownNameError
from dualpix.models.data.kinds import CROP_HW, StackGenerator, WantedPrecision
from dualpix.models.data.rendered import EVALUATION_SEED, RenderSettings
from dualpix.models.data.windows import Window

_MOST_STEPS = 10**8
_MOST_SAMPLES = 10**7
# (lowest, highest) of each number; the lowest of learning_rate is excluded
_RANGES: Mapping[str, tuple[float, float]] = {
    "steps": (1, _MOST_STEPS),
    "batch_size": (1, 65_536),
    "samples": (1, _MOST_SAMPLES),
    "seed": (0, EVALUATION_SEED - 1),
    "scene_seed": (0, EVALUATION_SEED - 1),
    "learning_rate": (0.0, 10.0),
    "weight_decay": (0.0, 10.0),
    "warmup_steps": (0, _MOST_STEPS),
    "ema_decay": (0.0, 1.0),
    "checkpoint_every": (1, _MOST_STEPS),
    "evaluate_every": (1, _MOST_STEPS),
    "eval_samples": (0, 10_000),
    "init_share": (0.0, 1.0),
    "teacher_weight": (0.0, 100.0),
    "frames": (2, 100),
    "renders": (1, 10_000),
}


@dataclass(frozen=True)
class TrainConfig:
    """A run. Two runs of equal configuration on one machine give equal weights.

    Raises:
        DualpixError: a number out of its range or none at all, or fields that do not go together.
    """

    network: str = "difusenet"
    options: dict[str, Any] = field(default_factory=dict)
    init: str | None = None
    """Model, by name or folder, whose weights are the start; None starts from random ones."""
    init_share: float = 0.0
    """Share of those weights in the result: averaging with them keeps what fine-tuning would forget (Wortsman et al.,
    "Robust fine-tuning of zero-shot models", CVPR 2022)."""
    init_parts: tuple[str, ...] = ()
    """``PART=FOLDER``: attributes of the network, see :attr:`~..networks.spec.NetworkSpec.parts`, that start with the
    weights of the same part in other models; folders are seen from that of the run, so that both may be moved."""
    teachers: tuple[str, ...] = ()
    """Models, by name or folder, whose disparity is learnt beside the truth: see :mod:`.teachers`."""
    teacher_weight: float = 1.0
    """Of that beside the truth's own loss."""
    encoder_weights: str | None = None
    """Published weights of the image encoder: a path or ``imagenet``, see :func:`~..foundation.foundation`."""
    steps: int = 6000
    batch_size: int = 8
    samples: int = 4096
    seed: int = 1
    scene_seed: int | None = None
    """Of what is rendered on the fly, where several runs are to see the same scenes; ``seed`` by default."""
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    warmup_steps: int = 100
    ema_decay: float = 0.998
    """Decay of the running average of the weights; the average is what is evaluated and shipped."""
    checkpoint_every: int = 100
    evaluate_every: int = 500
    eval_samples: int = 32
    precision: WantedPrecision = "auto"
    """Of the products in a step; ``auto`` is bfloat16 where the processor computes in it. A checkpoint holds what was
    used, and a run that resumes keeps it."""
    crop_hw: tuple[int, int] | None = CROP_HW
    """Random window of each sample; None trains on the whole."""
    render: RenderSettings = field(default_factory=RenderSettings)
    data: tuple[str, ...] = ("procedural",)
    """Sources with their weights, see :mod:`dualpix.models.data.sources`."""
    validate: tuple[str, ...] = ()
    """Sources that judge, or the share of the scenes that is held out to do so; by default scenes are rendered."""
    frames: int = 5
    """Of focus stacks."""
    fewest_frames: int | None = None
    """Where each batch draws its number of frames, from this up to ``frames``."""
    stacks: StackGenerator = "faithful"
    """How focus stacks that are rendered on the fly are formed."""
    renders: int = 4
    """Of each RGB-D picture."""

    def __post_init__(self) -> None:
        for seed in (self.seed, self.rendered_seed):
            if seed >= EVALUATION_SEED:
                raise DualpixError(
                    f"seed {seed}", expected=f"below {EVALUATION_SEED}: seeds from there on are for evaluation"
                )
        self._check_numbers()
        for what, value, known in (
            ("precision", self.precision, get_args(WantedPrecision)),
            ("way to form stacks", self.stacks, get_args(StackGenerator)),
        ):
            if value not in known:
                raise UnknownNameError(what, str(value), list(known))
        if self.init_share == 1.0 or (self.init_share and self.init is None):
            raise DualpixError(f"a share of {self.init_share:g} of the first weights", expected="init, and below 1")
        if self.init is not None and (self.init_parts or self.encoder_weights is not None):
            raise DualpixError("init and weights of parts were given", expected="one of them")
        if not self.data:
            raise DualpixError("no data to train on", expected="one source or more")
        Window(self.crop_hw, self.frames, self.fewest_frames)
        if self.crop_hw and any(c > s for c, s in zip(self.crop_hw, self.render.size_hw, strict=True)):
            raise DualpixError(f"crop {self.crop_hw}", expected=f"at most the rendered size {self.render.size_hw}")

    @property
    def rendered_seed(self) -> int:
        """Of what is rendered on the fly."""
        return self.seed if self.scene_seed is None else self.scene_seed

    def _check_numbers(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is None and name == "scene_seed":
                continue
            # written so that NaN fails
            if isinstance(value, bool) or not (low <= value <= high and math.isfinite(value)):
                raise DualpixError(f"{name} {value}", expected=f"{low:g} to {high:g}")
        if self.learning_rate == 0:
            raise DualpixError("learning_rate 0", expected="above 0")


def config_from_json(value: dict[str, Any]) -> TrainConfig:
    """The inverse of ``asdict`` through JSON (lists become tuples again); reads what version 0.1.0 wrote as well."""
    render: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in value["render"].items()}
    tuples = ("crop_hw", "data", "validate", "init_parts", "teachers")
    plain: dict[str, Any] = {
        k: tuple(v) if k in tuples and v is not None else v for k, v in value.items() if k != "render"
    }
    plain.pop("bfloat16", None)  # its place is the checkpoint's "precision" now
    return TrainConfig(**plain, render=RenderSettings(**render))


def _tuples(name: str, value: Any) -> Any:
    """JSON has lists where the configuration has tuples."""
    return tuple(value) if name in ("crop_hw", "data", "validate") and value is not None else value
