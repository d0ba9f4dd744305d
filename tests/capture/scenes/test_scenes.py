"""Varied scenes: geometry against brute force, what every scene must hold, and the statistics of natural pictures."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpix.capture.scenes import USE_NAMES, Scene, SceneLayer, UseName, make_scene, make_varied_scene, stream
from dualpix.capture.scenes.cards import Bend, Card, axes_facing, rectangle
from dualpix.capture.scenes.geometry import Camera, Form, Solid, Vector
from dualpix.capture.scenes.tiles import MAKERS
from dualpix.capture.scenes.uses import USES

SIZE = (96, 128)


@pytest.fixture(scope="module")
def scenes() -> dict[UseName, list[Scene]]:
    return {use: [make_varied_scene(seed, SIZE, use) for seed in range(7)] for use in USE_NAMES}


def every(scenes: dict[UseName, list[Scene]]) -> list[Scene]:
    return [scene for of_use in scenes.values() for scene in of_use]


def digest(scene: Scene) -> str:
    data = b"".join(np.ascontiguousarray(a).tobytes() for v in scene.layers for a in (v.colour, v.alpha, v.proximity))
    return hashlib.sha256(data).hexdigest()


# --- what every scene must hold ---------------------------------------------------------------------------------------


def test_layers_are_ordered_finite_and_in_range(scenes: dict[UseName, list[Scene]]) -> None:
    for scene in every(scenes):
        assert np.all(scene.layers[0].alpha == 1)
        assert 1 <= len(scene.layers) <= 16
        nearest = scene.layers[0].proximity
        for layer in scene.layers:
            for plane in (layer.alpha, layer.proximity):
                assert plane.shape == SIZE and plane.dtype == np.float32
                assert np.isfinite(plane).all() and plane.min() >= 0 and plane.max() <= 1
            assert layer.colour.shape == (*SIZE, 3) and layer.colour.dtype == np.float32
            assert np.isfinite(layer.colour).all() and layer.colour.min() > 0, "what is hidden has a colour too"
        for layer in scene.layers[1:]:
            covered = layer.alpha > 0
            assert covered.any()
            assert np.all(layer.proximity[covered] >= nearest[covered] - 1e-6), "behind what it covers"
            nearest = np.where(covered, layer.proximity, nearest)


def test_coverage_is_antialiased(scenes: dict[UseName, list[Scene]]) -> None:
    between = [np.mean((v.alpha > 0.02) & (v.alpha < 0.98)) for s in every(scenes) for v in s.layers[1:]]
    assert 0.002 < np.mean(between) < 0.1


def test_depth_is_metric_and_within_the_use(scenes: dict[UseName, list[Scene]]) -> None:
    for use, of_use in scenes.items():
        for scene in of_use:
            assert scene.depth_range_m is not None
            near, far = scene.depth_range_m
            depth = scene.depth_m()
            assert USES[use].near_m * 0.999 <= near < far <= USES[use].far_m * 1.001
            assert depth.min() >= near * 0.999 and np.all(depth <= far * 1.001)
        assert sum(s.proximity().max() > 0.9 for s in of_use) >= 4, "most scenes use their depth range"
    assert all(np.isinf(s.depth_range_m[1]) for s in scenes["outdoor"] if s.depth_range_m)


def test_depth_follows_the_convention() -> None:
    ramp = np.tile(np.linspace(0, 1, 5, dtype=np.float32), (2, 1))
    layer = SceneLayer(np.ones((2, 5, 3), np.float32), np.ones((2, 5), np.float32), ramp)
    # 1/z is affine in the proximity: 1/2, 7/8, 5/4, 13/8, 2 per metre
    assert Scene((layer,), (0.5, 2.0)).depth_m()[0] == pytest.approx([2, 8 / 7, 4 / 5, 8 / 13, 0.5])
    assert Scene((layer,), (0.5, np.inf)).depth_m()[0] == pytest.approx([np.inf, 2, 1, 2 / 3, 0.5])
    with pytest.raises(ValueError, match="no metric scale"):
        make_scene(3, (32, 48)).depth_m()


# --- determinism ------------------------------------------------------------------------------------------------------


def test_same_seed_gives_the_same_scene_in_another_process() -> None:
    code = (
        "from test_scenes import digest; from dualpix.capture.scenes import make_varied_scene as m;"
        "print([digest(m(s, (48, 64))) for s in (1, 2)])"
    )
    folder = __file__.rpartition("/")[0]
    other = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {folder!r}); {code}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    mine = [digest(make_varied_scene(s, (48, 64))) for s in (1, 2)]
    assert other.stdout.strip() == str(mine)
    assert mine[0] != mine[1]


def test_present_scenes_stay_bit_for_bit() -> None:
    """Shipped weights and recorded figures rest on them (up to the last bits of the machine's exp and FFT)."""
    scene = make_scene(11, (64, 96))
    assert len(scene.layers) == 3
    np.testing.assert_allclose(scene.all_in_focus().mean((0, 1)), [0.2321874, 0.2334840, 0.2303644], rtol=1e-5)
    assert float(scene.proximity().mean()) == pytest.approx(0.4569971, rel=1e-5)


def test_without_a_use_one_is_drawn() -> None:
    drawn = [digest(make_varied_scene(seed, (32, 40))) for seed in range(4)]
    by_use = {use: [digest(make_varied_scene(seed, (32, 40), use)) for seed in range(4)] for use in USE_NAMES}
    found = [[use for use in USE_NAMES if by_use[use][k] == one] for k, one in enumerate(drawn)]
    assert all(len(uses) == 1 for uses in found)
    assert len({uses[0] for uses in found}) >= 2


def test_workers_share_a_stream_without_overlap() -> None:
    size = (24, 32)
    alone = [(i, digest(s)) for i, s in islice(stream(5, size, "macro", start=3), 6)]
    shared = [
        (i, digest(s)) for w in range(3) for i, s in islice(stream(5, size, "macro", start=3, worker=w, workers=3), 2)
    ]
    assert sorted(shared) == alone
    assert [i for i, _ in alone] == [3, 4, 5, 6, 7, 8]
    assert len({d for _, d in alone}) == 6
    other = next(stream(6, size, "macro", start=3))
    assert digest(other[1]) != alone[0][1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_varied_scene(0, SIZE, "space"), "use is 'space', expected one of macro, desk, room, outdoor"),
        (lambda: make_varied_scene(0, (8, 128)), "canvas is 8 x 128 px"),
        (lambda: stream(0, SIZE, worker=2, workers=2), "worker is 2, expected 0 to 1"),
        (lambda: stream(0, SIZE, start=-1), "start is -1"),
    ],
)
def test_bad_arguments_are_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]


# --- geometry against brute force -------------------------------------------------------------------------------------


def turned(seed: int) -> Vector:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))[0]


def inside(solid: Solid, points: Vector) -> np.ndarray:
    local = (points - solid.centre) @ solid.axes.T / solid.half_m
    if solid.form == "box":
        return np.abs(local).max(-1) <= 1
    if solid.form == "ellipsoid":
        return (local**2).sum(-1) <= 1
    return (local[..., 0] ** 2 + local[..., 2] ** 2 <= 1) & (np.abs(local[..., 1]) <= 1)


@settings(max_examples=16, deadline=None)
@given(form=st.sampled_from(["box", "cylinder", "ellipsoid"]), seed=st.integers(0, 10_000))
def test_solids_equal_marching_along_the_ray(form: Form, seed: int) -> None:
    rng = np.random.default_rng(seed)
    solid = Solid(
        form, np.array([rng.uniform(-0.5, 0.5), rng.uniform(-0.4, 0.4), 3.0]), turned(seed), rng.uniform(0.2, 0.7, 3)
    )
    if solid.holds_camera():
        return
    camera = Camera.looking((24, 32), 30.0, 1.0, 0.0, 0.0)
    coverage, hit = solid.coverage(camera, camera.whole), solid.hit(camera, camera.whole)
    x, y = camera.rays(camera.whole)
    rays = np.stack(np.broadcast_arrays(x, y, np.float32(1)), -1).astype(float)
    depths = np.linspace(1.5, 4.5, 1501)
    met = inside(solid, rays[:, :, None] * depths[:, None])
    seen = met.any(-1)
    first = depths[met.argmax(-1)]
    assert np.all(coverage[seen] > 0) and np.all(coverage[~seen] < 1)
    sure = seen & (coverage > 0.999)
    assert np.allclose(1 / hit.inverse_depth[sure], first[sure], atol=0.006)
    assert coverage.sum() == pytest.approx(seen.sum(), abs=0.1 * seen.sum() + 3)
    # the reported normal points at the viewer and is a unit vector
    assert np.all((hit.normal * rays).sum(-1)[sure] < 1e-3)
    assert np.allclose(np.linalg.norm(hit.normal, axis=-1)[sure], 1, atol=1e-5)


def test_a_plane_has_affine_inverse_depth_and_true_positions() -> None:
    camera = Camera.looking((40, 50), 45.0, 1.2, 0.3, 0.1)
    axes = axes_facing(np.array([0.3, -0.4, -1.0]), np.array([0.0, -1.0, 0.0]))
    card = Card(np.array([0.1, 0.2, 2.0]), axes, (rectangle(0.4, 0.3),))
    hit = card.hit(camera, camera.whole)
    assert (
        np.abs(np.diff(hit.inverse_depth, 2, 0)).max() < 1e-6 and np.abs(np.diff(hit.inverse_depth, 2, 1)).max() < 1e-6
    )
    corner = card.points(np.array([[0.4, 0.3]]))[0]
    column, row = camera.project(corner)
    at = (round(row), round(column))
    assert hit.u_m[at] == pytest.approx(0.4, abs=0.03) and hit.v_m[at] == pytest.approx(0.3, abs=0.03)
    assert 1 / hit.inverse_depth[at] == pytest.approx(corner[2], abs=0.03)
    # coverage against the pixels whose position is on the card
    on = (np.abs(hit.u_m) < 0.4) & (np.abs(hit.v_m) < 0.3)
    inner = (np.abs(hit.u_m) < 0.33) & (np.abs(hit.v_m) < 0.23)
    assert np.all(card.coverage(camera, camera.whole)[inner] == 1)
    assert card.coverage(camera, camera.whole).sum() == pytest.approx(on.sum(), rel=0.05)
    # u runs right and v down in the picture
    assert np.diff(hit.u_m, axis=1).min() > 0 and np.diff(hit.v_m, axis=0).min() > 0


def test_a_bent_card_stands_out_by_its_wave() -> None:
    camera = Camera.looking((20, 60), 60.0, 1.0, 0.0, 0.0)
    axes = axes_facing(np.array([0.0, 0.0, -1.0]), np.array([0.0, -1.0, 0.0]))
    bend = Bend(0.05, (9.0, 0.0), 0.4)
    hit = Card(np.array([0.0, 0.0, 2.0]), axes, (rectangle(1, 1),), bend=bend).hit(camera, camera.whole)
    assert np.allclose(1 / hit.inverse_depth, 2.0 - 0.05 * np.sin(9.0 * hit.u_m + 0.4), atol=1e-4)
    # the normal is that of the wave: its slope is the cosine's
    slope = -hit.normal[..., 0] / hit.normal[..., 2]
    assert np.allclose(slope, -0.45 * np.cos(9.0 * hit.u_m + 0.4), atol=1e-3)


def test_print_is_not_mirrored() -> None:
    """On every upright face of a box u runs to the right and v down, as seen from outside."""
    camera = Camera.looking((60, 60), 60.0, 1.0, 0.35, 0.0)
    for yaw in (0.4, 1.1, 2.3, 4.0, 5.5):
        c, s = np.cos(yaw), np.sin(yaw)
        axes = camera.direction(np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]))
        for form in ("box", "cylinder"):
            solid = Solid(form, np.array([0.0, 0.1, 3.0]), axes, np.array([0.8, 0.7, 0.8]))  # type: ignore[arg-type]
            hit = solid.hit(camera, camera.whole)
            whole = solid.coverage(camera, camera.whole) == 1
            for face in set(hit.face[whole]) - {1}:
                on = whole & (hit.face == face)
                same = on[1:, 1:] & on[1:, :-1] & on[:-1, 1:]
                assert np.median(np.diff(hit.u_m, axis=1)[1:][same]) > 0
                assert np.median(np.diff(hit.v_m, axis=0)[:, 1:][same]) > 0


# --- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(set(MAKERS) - {"print", "picture"}))
def test_tiles_are_periodic_albedo(kind: str) -> None:
    for seed in range(3):
        tile = MAKERS[kind](np.random.default_rng(seed), 64)
        assert tile.shape == (64, 64, 3) and tile.dtype == np.float32
        assert np.isfinite(tile).all() and tile.min() >= 0
        log = np.log(np.maximum(tile, 0.005))
        for axis in (0, 1):
            step = np.abs(log - np.roll(log, 1, axis)).mean((1 - axis, 2))
            assert step[0] <= 1.3 * step.max(initial=0, where=np.arange(64) > 0) + 1e-3, "a seam"


def log_luminance(scene: Scene) -> np.ndarray:
    return np.log(np.maximum(scene.all_in_focus() @ np.array([0.25, 0.6, 0.15]), 0.003))


def spectrum_slope(log: np.ndarray) -> float:
    """Exponent of the mean power spectrum over frequency, from 1/24 to 1/3 cycles per pixel."""
    n = min(log.shape)
    window = np.hanning(n)[:, None] * np.hanning(n)
    power = np.abs(np.fft.fft2((log[:n, :n] - log[:n, :n].mean()) * window)) ** 2
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(n), np.fft.fftfreq(n)))
    edges = np.geomspace(4 / n, 1 / 3, 9)
    mean = [power[(radius >= a) & (radius < b)].mean() for a, b in pairwise(edges)]
    return float(np.polyfit(np.log(np.sqrt(edges[1:] * edges[:-1])), np.log(mean), 1)[0])


def test_pictures_have_natural_statistics(scenes: dict[UseName, list[Scene]]) -> None:
    """Limits hold Middlebury, NYUv2, TUM and Pixel 4 pictures: slope -2.2 to -3, kurtosis 13 to 60."""
    logs = [log_luminance(s) for s in every(scenes)]
    assert -3.1 < np.median([spectrum_slope(v) for v in logs]) < -2.1
    steps = [np.diff(v, axis=1) for v in logs]
    kurtosis = [np.mean((d - d.mean()) ** 4) / d.var() ** 2 for d in steps]
    assert 10 < np.median(kurtosis) < 90
    assert 0.6 < np.median([v.std() for v in logs]) < 1.5
    colour = [np.log(np.maximum(s.all_in_focus(), 0.003)).reshape(-1, 3).T for s in every(scenes)]
    assert 0.6 < np.median([np.corrcoef(c)[0, 2] for c in colour]) < 0.97


def test_pictures_hold_flat_areas_edges_of_depth_and_lights(scenes: dict[UseName, list[Scene]]) -> None:
    edges, flat = [], []
    for scene in every(scenes):
        p, log = scene.proximity(), log_luminance(scene)
        edges.append(np.mean(np.abs(np.diff(p, axis=1)) > 0.05))
        flat.append(np.mean(np.abs(np.diff(log, axis=1)) < 0.02))
    assert 0.01 < np.median(edges) < 0.1
    assert 0.1 < np.median(flat) < 0.6
    assert max(float(s.all_in_focus().max()) for s in every(scenes)) > 1.5, "something must saturate"
    slanted = [np.abs(np.diff(v.proximity, axis=0)).max() for s in every(scenes) for v in s.layers]
    assert np.mean(np.array(slanted) > 1e-4) > 0.5
