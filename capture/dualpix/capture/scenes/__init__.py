"""Procedural scenes: the embedded RGB-D data, deterministic by seed, no download."""

from dualpix.capture.scenes.procedural import Scene, SceneLayer, make_scene

__all__ = ["Scene", "SceneLayer", "make_scene"]
