"""Errors of exports, apart from what needs torch."""

from __future__ import annotations

from dualpix.capture.errors import DualpixError


class ExportError(DualpixError):
    """A network could not be converted, or the converted file does not load or run."""


class ProfileError(DualpixError):
    """A profile is damaged, or a file cannot be profiled."""
