"""Procedural scenes: the embedded RGB-D data, deterministic by seed, no download."""

from dualpix.capture.scenes.procedural import Scene, SceneLayer, make_scene
from dualpix.capture.scenes.varied import USE_NAMES, UseName, make_varied_scene, scene_seed, stream

__all__ = ["USE_NAMES", "Scene", "SceneLayer", "UseName", "make_scene", "make_varied_scene", "scene_seed", "stream"]
