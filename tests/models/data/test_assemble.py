"""What a run trains on and is validated on."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support import rgbd as write
from tests.support.training import OPTIONS, render, task_named

from dualpix.capture.errors import DualpixError
from dualpix.models.data.assemble import assemble
from dualpix.models.data.mixture import Mixture
from dualpix.models.data.windows import Window

TASK = task_named("dual_pixel")
WINDOW = Window((32, 32))


def scenes(mixture: Mixture) -> set[tuple[str, str]]:
    return {(source.name, source.scene_of(index)) for source in mixture.sources for index in range(len(source))}


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    for number in range(6):
        write.write_generic(tmp_path / "rgbd", write.truth(seed=number), f"{number}")
    return str(tmp_path / "rgbd")


def test_a_share_of_every_source_is_held_out(pictures: str) -> None:
    data = assemble(["procedural:2", f"{pictures}:0.5"], TASK, options=OPTIONS, window=WINDOW, share=0.3)
    assert data.validation is not None and data.training.weights == data.validation.weights == (2.0, 0.5)
    assert not scenes(data.training) & scenes(data.validation)
    assert {name for name, _ in scenes(data.validation)} == {"procedural", pictures}
    batch = data.validation.finish([data.validation.load(key) for key in data.validation.spread_keys(4)])
    assert batch["left"].shape[1:] == (1, 32, 32)


def test_sources_of_their_own_validate(pictures: str, tmp_path: Path) -> None:
    held = render(tmp_path / "held", "--scenes", 2, "--size", 48, 64, "--coc-span", 6)
    data = assemble([pictures], TASK, options=OPTIONS, window=WINDOW, validate=[str(held)])
    assert data.validation is not None and len(data.validation.sources[0]) == 2
    assert len(data.training.sources[0]) == 12
    assert assemble([pictures], TASK, options=OPTIONS).validation is None


def test_the_same_data_on_both_sides_are_refused(pictures: str) -> None:
    for text in ("procedural", pictures):
        with pytest.raises(DualpixError, match=r"the same samples are trained and validated on; .*hold out a share"):
            assemble(["procedural", f"{pictures}:0.3"], TASK, options=OPTIONS, validate=[text])


def test_one_way_of_validation_and_at_least_one_source(pictures: str) -> None:
    with pytest.raises(DualpixError, match="expected one of them"):
        assemble(["procedural"], TASK, options=OPTIONS, validate=[pictures], share=0.1)
    with pytest.raises(DualpixError, match="0 sources of training data"):
        assemble([], TASK)


def test_what_is_not_used_is_told(pictures: str) -> None:
    listed = Path(pictures, "index.csv")
    listed.write_text("name,size\na,1\n")
    data = assemble([pictures], TASK, options=OPTIONS)
    assert any("index.csv" in note for note in data.notes)
