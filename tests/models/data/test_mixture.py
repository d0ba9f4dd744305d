"""The stream of batches: shares, epochs, resumption, processes, and samples that do not read."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.support.training import OPTIONS, Numbered, task_named
from torch.utils.data import DataLoader

from dualpix.capture.errors import DualpixError
from dualpix.models.data.mixture import Key, Mixture, MixtureDataset, MixtureSampler, collate
from dualpix.models.data.skipped import Skips
from dualpix.models.data.source import Source
from dualpix.models.data.sources import open_source
from dualpix.models.data.windows import Window
from dualpix.models.tasks.task import KNOWN, Sample

PAIR = task_named("dual_pixel")


def mixture(*sources: Source, weights: Sequence[float] = (), seed: int = 3, window: Window | None = None) -> Mixture:
    return Mixture(sources, tuple(weights) or (1.0,) * len(sources), seed, PAIR, window or Window())


def stream(mixed: Mixture, batch_size: int, first: int, last: int, **part: int) -> list[list[Key]]:
    return list(MixtureSampler(mixed, batch_size, first, last, **part))


# Which samples, in which order

counts = st.lists(st.integers(1, 40), min_size=1, max_size=4)
weights = st.lists(st.floats(0.05, 20), min_size=4, max_size=4)


@given(counts, weights, st.integers(1, 24), st.integers(0, 99))
def test_every_source_has_its_share_and_each_sample_once_an_epoch(
    sizes: list[int], given_weights: list[float], batch_size: int, seed: int
) -> None:
    used = given_weights[: len(sizes)]
    mixed = mixture(*(Numbered(str(n), size) for n, size in enumerate(sizes)), weights=used, seed=seed)
    keys = [key for batch in stream(mixed, batch_size, 0, 12) for key in batch]
    assert len(keys) == 12 * batch_size
    drawn = Counter(key.source for key in keys)
    for place, weight in enumerate(used):
        expected = len(keys) * weight / sum(used)
        assert abs(drawn[place] - expected) <= 1 + place + len(keys) * 2e-6
    assert [drawn[place] for place in range(len(sizes))] == list(mixed.drawn(len(keys)))
    assert max(Counter(keys).values()) == 1
    for place, size in enumerate(sizes):
        epochs = Counter(key.epoch for key in keys if key.source == place)
        # whole epochs but for the last one
        assert [epochs[e] for e in sorted(epochs)][:-1] == [size] * (len(epochs) - 1)
        assert {key.sample for key in keys if key.source == place} <= set(range(size))


@given(st.integers(0, 30), st.integers(1, 6), st.integers(1, 4), st.integers(1, 4))
def test_a_step_is_the_same_from_any_start_and_for_any_number_of_processes(
    start: int, steps: int, part: int, world: int
) -> None:
    mixed = mixture(Numbered("a", 7), Numbered("b", 5), Numbered("c", 1), weights=(1, 0.3, 2))
    batch_size = part * world
    whole = stream(mixed, batch_size, 0, start + steps)
    assert stream(mixed, batch_size, start, start + steps) == whole[start:]
    parts = [stream(mixed, batch_size, start, start + steps, rank=rank, world=world) for rank in range(world)]
    assert [[key for one in step for key in one] for step in zip(*parts, strict=True)] == whole[start:]


def test_two_processes_of_four_see_what_one_of_eight_sees() -> None:
    mixed = mixture(Numbered("a", 30), Numbered("b", 11), weights=(3, 1))
    one = [mixed.finish([mixed.load(key) for key in batch]) for batch in stream(mixed, 8, 5, 8)]
    for step, batch in enumerate(one):
        halves = [
            mixed.finish([mixed.load(key) for key in stream(mixed, 8, 5, 8, rank=rank, world=2)[step]])
            for rank in (0, 1)
        ]
        for name, value in batch.items():
            assert torch.equal(torch.cat([half[name] for half in halves]), value), name


def test_another_seed_is_another_order_and_epochs_differ() -> None:
    first, other = (mixture(Numbered("a", 50), seed=seed) for seed in (1, 2))
    assert stream(first, 50, 0, 1) != stream(other, 50, 0, 1)
    epochs = [[key.sample for key in batch] for batch in stream(first, 50, 0, 2)]
    assert epochs[0] != epochs[1] and set(epochs[0]) == set(epochs[1]) == set(range(50))


def test_far_into_a_long_run_steps_cost_nothing_and_shares_are_exact() -> None:
    mixed = mixture(Numbered("a", 100_000), Numbered("b", 3), weights=(0.9, 0.1))
    keys = [key for batch in stream(mixed, 1000, 10**8, 10**8 + 10) for key in batch]
    assert abs(Counter(key.source for key in keys)[1] - 1000) <= 2


@pytest.mark.parametrize(
    ("batch", "rank", "world", "words"),
    [(7, 0, 2, "a batch of 7 for 2 processes"), (8, 2, 2, "process 2 of 2"), (0, 0, 1, "a batch of 0")],
)
def test_parts_that_cannot_be_equal_are_refused(batch: int, rank: int, world: int, words: str) -> None:
    with pytest.raises(DualpixError, match=words):
        MixtureSampler(mixture(Numbered("a", 3)), batch, 0, 1, rank=rank, world=world)


@pytest.mark.parametrize(
    ("weights", "words"),
    [((1.0, 0.0), "numbers above 0"), ((1.0, float("nan")), "numbers above 0"), ((1.0,), "2 sources and 1 weights"),
     ((1e9, 1.0), "a millionth"), ((1.0, 1e9), "a millionth")],
)  # fmt: skip
def test_weights_that_are_none_are_refused(weights: tuple[float, ...], words: str) -> None:
    with pytest.raises(DualpixError, match=words):
        Mixture((Numbered("a", 3), Numbered("b", 3)), weights, 1, PAIR)


def test_a_source_of_another_task_is_refused() -> None:
    with pytest.raises(DualpixError, match="'a' has samples of the task 'focus_stack'"):
        mixture(Numbered("a", 3, task="focus_stack"))


# What is drawn with a sample


def noisy(sample: Sample, rng: np.random.Generator) -> Sample:
    return {**sample, "left": sample["left"] + float(rng.random())}


def test_augmentation_follows_from_seed_epoch_source_and_sample_alone() -> None:
    task = task_named("dual_pixel", noisy)
    mixed = Mixture((Numbered("a", 4), Numbered("b", 4)), (1.0, 1.0), 5, task, Window((16, 16)))
    again = Mixture((Numbered("a", 4), Numbered("b", 4)), (1.0, 1.0), 5, task, Window((16, 16)))
    for key in (Key(0, 0, 1), Key(1, 0, 1), Key(0, 1, 1)):
        for name, value in mixed.load(key).sample.items():
            assert torch.equal(value, again.load(key).sample[name])
    lefts = [mixed.load(key).sample["left"] for key in (Key(0, 0, 1), Key(1, 0, 1), Key(0, 1, 1), Key(0, 0, 2))]
    assert not any(torch.equal(a, b) for n, a in enumerate(lefts) for b in lefts[n + 1 :])


def test_samples_of_any_size_come_to_the_window() -> None:
    large, small = Numbered("large", 3, size_hw=(40, 50)), Numbered("small", 3, size_hw=(14, 30))
    mixed = mixture(large, small, window=Window((20, 24)))
    batch = mixed.finish([mixed.load(Key(0, 0, 1)), mixed.load(Key(0, 1, 2))])
    assert batch["left"].shape == (2, 1, 20, 24) and batch["combined"].shape == (2, 3, 20, 24)
    assert (batch[KNOWN][0] == 1).all()
    assert (batch[KNOWN][1, :, :14] == 1).all() and (batch[KNOWN][1, :, 14:] == 0).all()
    assert torch.equal(batch["left"][1, :, 14:], batch["left"][1, :, 7:13].flip(-2))  # reflected
    # a window of the picture: every view is cut at one place
    ramp = batch["left"][0] - 1
    assert torch.allclose(ramp, batch["right"][0] + 1) and torch.allclose(2 * ramp, batch["combined"][0][:1])
    places = {float(mixed.load(Key(epoch, 0, 1)).sample["left"][0, 0, 0]) for epoch in range(12)}
    assert len(places) > 4


def test_frames_of_a_small_stack_are_reflected_like_its_depth() -> None:
    task = task_named("focus_stack")
    ramp = torch.arange(12, dtype=torch.float32).expand(3, 1, 10, 12).clone()
    sample = {
        "frames": ramp.expand(-1, 3, -1, -1) + torch.arange(3.0)[:, None, None, None],
        "focus_distances_m": torch.tensor([3.0, 2.0, 1.0]),
        "depth_m": ramp[0] + 1,
        KNOWN: torch.ones(1, 10, 12),
    }
    grown = Window((16, 16)).of(sample, task, np.random.default_rng(0))
    assert grown["frames"].shape == (3, 3, 16, 16) and grown["depth_m"].shape == (1, 16, 16)
    for frame, number in zip(grown["frames"], range(3), strict=True):
        assert torch.equal(frame[0] - number, grown["depth_m"][0] - 1)
    assert float(grown[KNOWN].sum()) == 10 * 12


def test_a_window_is_taken_where_a_truth_is_known() -> None:
    sample = Numbered("a", 1, size_hw=(64, 64)).prepare(0)
    sample[KNOWN] = torch.zeros(1, 64, 64)
    sample[KNOWN][:, :12, :12] = 1
    for seed in range(20):
        window = Window((32, 32)).of(sample, PAIR, np.random.default_rng(seed))
        assert float(window[KNOWN].sum()) > 0


def test_a_sample_that_no_reflection_fills_is_refused_by_name() -> None:
    mixed = mixture(Numbered("tiny", 1, size_hw=(8, 24)), window=Window((20, 24)))
    with pytest.raises(DualpixError, match=r"'tiny': its only sample does not read: sample 0 of 'tiny' is 8x24"):
        mixed.load(Key(0, 0, 0))


def test_sizes_that_differ_without_a_window_are_told() -> None:
    mixed = mixture(Numbered("a", 1), Numbered("b", 1, size_hw=(32, 32)))
    with pytest.raises(DualpixError, match=r"\(1, 16, 24\) and \(1, 32, 32\)"):
        mixed.finish([mixed.load(Key(0, 0, 0)), mixed.load(Key(0, 1, 0))])


# Samples that do not read


def test_a_sample_that_does_not_read_is_replaced_by_the_same_one_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    bad = frozenset({2, 5, 6})
    first, again = (mixture(Numbered("a", 12, bad)) for _ in range(2))
    loaded = [first.load(key) for key in first.keys(0, 12)]
    assert [one.read for one in loaded] == [again.load(key).read for key in again.keys(0, 12)]
    assert not bad & {one.read for one in loaded}
    assert [one.read for one in loaded if one.key.sample not in bad] == [
        one.key.sample for one in loaded if one.key.sample not in bad
    ]
    skips = Skips()
    for one in (*loaded, *loaded):
        skips.note(one.skipped)
    lines = capsys.readouterr().err.splitlines()
    assert len(skips) == len(lines) == 3
    assert all(line.startswith("dualpix: warning: a: a sample is skipped: 'a/") for line in lines)
    assert skips.summary() == "samples that do not read were skipped: 3 of 'a'"


def test_of_many_a_few_are_named_and_all_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    mixed, skips = mixture(Numbered("a", 60, frozenset(range(40)))), Skips()
    for key in mixed.keys(0, 60):
        skips.note(mixed.load(key).skipped)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11 and "counted, not named" in lines[-1] and len(skips) == 40


def test_a_source_of_which_nothing_reads_is_an_error() -> None:
    mixed = mixture(Numbered("good", 4), Numbered("bad", 4, frozenset(range(4))))
    with pytest.raises(DualpixError, match=r"'bad': none of 4 samples reads: 'bad/\d.png' is cut; expected a complete"):
        mixed.load(Key(0, 1, 2))
    assert mixed.load(Key(0, 0, 2)).read == 2


@pytest.mark.parametrize(
    ("name", "spoil", "words"),
    [
        ("left", lambda v: v.fill_(float("nan")), "384 values of left are NaN or infinite"),
        ("right", lambda v: v[..., :8], r"right is \(1, 16, 8\)"),
        ("disparity_px", lambda v: v.fill_(float("inf")), "truth in 0 of 384 pixels"),
        (KNOWN, lambda v: v.zero_(), "truth in 0 of 384 pixels"),
        ("combined", None, "has no combined"),
    ],
)
def test_what_is_no_sample_of_the_task_is_skipped(name: str, spoil: object, words: str) -> None:
    class Spoilt(Numbered):
        def prepare(self, index: int) -> Sample:
            sample = super().prepare(index)
            value = sample.pop(name).clone()
            return {**sample, name: spoil(value)} if callable(spoil) else sample

    with pytest.raises(DualpixError, match=words):
        mixture(Spoilt("a", 1)).load(Key(0, 0, 0))


def test_truth_that_is_not_finite_is_not_known() -> None:
    class Holes(Numbered):
        def prepare(self, index: int) -> Sample:
            sample = super().prepare(index)
            sample["disparity_px"][:, :4] = float("nan")
            return sample

    sample = mixture(Holes("a", 2)).load(Key(0, 0, 1)).sample
    assert (sample[KNOWN][:, :4] == 0).all() and (sample[KNOWN][:, 4:] == 1).all()
    assert (sample["disparity_px"][:, :4] == 0).all()


# In a loader


@pytest.mark.parametrize("form_in_loader", [True, False])
def test_loading_processes_give_the_same_batches(form_in_loader: bool) -> None:
    procedural, _ = open_source("procedural", "dual_pixel", OPTIONS)
    mixed = mixture(Numbered("a", 5, frozenset({1}), size_hw=(48, 64)), procedural, window=Window((32, 32)))
    expected = [mixed.finish([mixed.load(key) for key in keys]) for keys in stream(mixed, 4, 1, 3)]
    loader = DataLoader(
        MixtureDataset(mixed, form_in_loader=form_in_loader),
        batch_sampler=MixtureSampler(mixed, 4, 1, 3),
        num_workers=1,
        collate_fn=collate,
        multiprocessing_context="spawn",
    )
    batches = list(loader)
    # far more samples may wait than files may be open: one tensor a batch crosses over
    assert all(sum(isinstance(v, torch.Tensor) for v in vars(batch).values()) == 1 for batch in batches)
    assert {skip.index for batch in batches for skip in batch.skipped} <= {1}
    for batch, wanted in zip(batches, expected, strict=True):
        found = mixed.finish(batch)
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            assert torch.equal(found[name], value), name


def test_an_error_of_a_loading_process_is_the_users_line() -> None:
    mixed = mixture(Numbered("bad", 3, frozenset(range(3))))
    loader = DataLoader(
        MixtureDataset(mixed),
        batch_sampler=MixtureSampler(mixed, 2, 0, 1),
        num_workers=1,
        collate_fn=collate,
        multiprocessing_context="spawn",
    )
    (batch,) = loader
    with pytest.raises(DualpixError) as raised:
        mixed.finish(batch)
    assert "'bad': none of 3 samples reads: 'bad/" in str(raised.value) and "Traceback" not in str(raised.value)
    assert str(raised.value).endswith("is cut; expected a complete file")


def test_a_mixture_is_small_however_many_samples_it_has() -> None:
    mixed = mixture(Numbered("a", 10**6), Numbered("b", 10**5))
    for step in range(20):
        mixed.keys(step, 64)
    assert len(pickle.dumps(mixed)) < 10_000


def test_a_digest_changes_with_what_a_run_sees() -> None:
    base = mixture(Numbered("a", 5))
    changed = [
        mixture(Numbered("a", 6)),
        mixture(Numbered("a", 5), seed=4),
        mixture(Numbered("a", 5), weights=(2.0,)),
        mixture(Numbered("a", 5), window=Window((16, 16))),
    ]
    assert len({base.digest(), *(one.digest() for one in changed)}) == 5
    assert mixture(Numbered("a", 5)).digest() == base.digest()


def test_validation_sees_the_same_few_samples_spread_over_each_source() -> None:
    mixed = mixture(Numbered("a", 1000), Numbered("b", 3), weights=(0.8, 0.2))
    keys = mixed.spread_keys(20)
    assert keys == mixed.spread_keys(20) and len(keys) == 16 + 3
    samples = [key.sample for key in keys if key.source == 0]
    assert samples[0] == 0 and samples[-1] == 999 and max(np.diff(samples)) < 70
    assert [key.sample for key in keys if key.source == 1] == [0, 1, 2]
