"""Procedural scenes, rendered on the fly: training data that need no download."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from dualpix.capture.scenes import make_varied_scene, scene_seed
from dualpix.models.data.formation import RgbdView, plain_picture
from dualpix.models.data.kept import KeptStacks
from dualpix.models.data.options import SourceOptions
from dualpix.models.data.rendered import RenderedDataset
from dualpix.models.data.source import Source
from dualpix.models.data.sources.kind import DUAL_PIXEL, FOCUS_STACK, MONOCULAR, SourceKind, digest_of, never
from dualpix.models.data.stack_formation import STACK_FORMATION, draw_range_m, draw_stack, form_stack, scene_stack
from dualpix.models.tasks.task import Sample

_LARGE = 2
"""Times the sides of a run's scenes, in pixels of the same blur: what is plain is plain over twice as far."""
_STACK_DRAWS = 7
"""Of the random streams of a sample, that of its lens."""
_RANGE_DRAWS = 8
"""And that of how far its scene is."""


@dataclass(frozen=True)
class ProceduralPairs:
    """Pairs of :mod:`dualpix.models.data.rendered`; the scenes know what is behind their edges."""

    name: str
    data: RenderedDataset
    task: str = DUAL_PIXEL
    forms: bool = False

    def __len__(self) -> int:
        return len(self.data)

    def scene_of(self, index: int) -> str:
        """Each is its own."""
        return str(index)

    def prepare(self, index: int) -> Sample:
        """Rendered, or read where it was kept."""
        return self.data[index]

    def form(self, prepared: Sample) -> Sample:
        """Nothing is left to do."""
        return prepared

    def digest(self) -> str:
        """Of the settings and the seed."""
        return digest_of({"pairs": self.data.settings.digest(), "seed": self.data.seed, "count": len(self)})


@dataclass(frozen=True)
class ProceduralStacks:
    """Focus stacks of procedural scenes, see :mod:`..stack_formation`."""

    name: str
    options: SourceOptions
    task: str = FOCUS_STACK
    _about: int = field(default=STACK_FORMATION, repr=False)

    @property
    def forms(self) -> bool:
        """Published blur is formed from picture and depth; scenes whose objects are whole are rendered when read."""
        return self.options.stacks == "published"

    def __len__(self) -> int:
        return self.options.samples

    def scene_of(self, index: int) -> str:
        """Each is its own."""
        return str(index)

    def prepare(self, index: int) -> Sample:
        """The scene with its lens, or the frames."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        seed = self.options.seed
        rng = np.random.default_rng([seed, _STACK_DRAWS, index])
        if not self.forms:
            return scene_stack(self.options, seed, index, rng)
        return draw_stack(_scene_at_some_distance(seed, index, self.options.render.size_hw), self.options, rng)

    def form(self, prepared: Sample) -> Sample:
        """The frames."""
        return form_stack(prepared) if self.forms else prepared

    def digest(self) -> str:
        """Of the settings and the seed."""
        return digest_of({"samples": self.samples_digest(), "count": len(self)})

    def samples_digest(self) -> str:
        """Of all that sample ``index`` depends on, and so not of how many there are."""
        options = self.options
        facts = {"seed": options.seed, "frames": options.frames, "form": [options.stacks, self._about]}
        return digest_of({"stacks": options.render.digest(), **facts})


def _open_simple(name: str, path: Path, task: str, options: SourceOptions) -> Source:
    render = replace(options.render, scenes="simple", quality="standard", optics="model")
    return _open(name, path, task, replace(options, render=render))


def _open_large(name: str, path: Path, task: str, options: SourceOptions) -> Source:
    height, width = options.render.size_hw
    render = replace(options.render, size_hw=(_LARGE * height, _LARGE * width))
    return _open(name, path, task, replace(options, render=render))


@dataclass(frozen=True)
class ProceduralPictures:
    """Procedural scenes as they are, sharp, with their inverse depth: nothing is rendered through a lens."""

    name: str
    options: SourceOptions
    task: str = MONOCULAR
    forms: bool = False

    def __len__(self) -> int:
        return self.options.samples

    def scene_of(self, index: int) -> str:
        """Each is its own."""
        return str(index)

    def prepare(self, index: int) -> Sample:
        """The scene."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        return plain_picture(_scene_view(self.options.seed, index, self.options.render.size_hw))

    def form(self, prepared: Sample) -> Sample:
        """Nothing is left to do."""
        return prepared

    def digest(self) -> str:
        """Of the settings and the seed."""
        options = self.options
        return digest_of({"pictures": options.render.size_hw, "seed": options.seed, "count": options.samples})


def _scene_view(seed: int, index: int, size_hw: tuple[int, int]) -> RgbdView:
    """Scene ``index`` of ``seed``, sharp, with the depth of each pixel."""
    scene = make_varied_scene(scene_seed(seed, index), size_hw)
    depth = scene.depth_m()
    return RgbdView(scene.all_in_focus(), depth, np.ones(depth.shape, np.bool_))


def _scene_at_some_distance(seed: int, index: int, size_hw: tuple[int, int]) -> RgbdView:
    """A scene whose picture does not tell how far it is."""
    near_m, far_m = draw_range_m(np.random.default_rng([seed, _RANGE_DRAWS, index]))
    scene = replace(make_varied_scene(scene_seed(seed, index), size_hw), depth_range_m=(near_m, far_m))
    depth = scene.depth_m()
    return RgbdView(scene.all_in_focus(), depth, np.ones(depth.shape, np.bool_))


def _open(name: str, path: Path, task: str, options: SourceOptions) -> Source:
    del path
    if task == FOCUS_STACK:
        stacks = ProceduralStacks(name, options)
        if options.cache_dir is None:
            return stacks
        size_hw, digest = options.render.size_hw, stacks.samples_digest()
        return KeptStacks.of(stacks, options.cache_dir, digest, size_hw, options.frames, sharp=options.sharp)
    if task == MONOCULAR:
        return ProceduralPictures(name, options)
    data = RenderedDataset(
        options.samples,
        settings=options.render,
        seed=options.seed,
        cache_dir=options.cache_dir,
        sharp=options.sharp,
    )
    return ProceduralPairs(name, data)


PROCEDURAL = SourceKind(
    "procedural", "the word alone: scenes rendered on the fly", (DUAL_PIXEL, FOCUS_STACK, MONOCULAR), never, _open
)
PROCEDURAL_SIMPLE = SourceKind(
    "procedural-simple",
    "the word alone: few plain surfaces through apertures that no camera has, for variety beside the others",
    (DUAL_PIXEL,),
    never,
    _open_simple,
)
PROCEDURAL_LARGE = SourceKind(
    "procedural-large",
    "the word alone: scenes of twice the --size, of which a window sees a part, for plain surfaces that are large",
    (DUAL_PIXEL,),
    never,
    _open_large,
)
