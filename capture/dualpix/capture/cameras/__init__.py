"""Cameras. In this version: the simulated one."""

from dualpix.capture.cameras.simulated import SimulatedCamera, SimulatedSensor, SimulatedShot

__all__ = ["SimulatedCamera", "SimulatedSensor", "SimulatedShot"]
