"""Choices of the search for mixed precision, by name: apart from its code, so that command lines need no torch."""

from __future__ import annotations

from typing import Literal, TypeAlias

Observer: TypeAlias = Literal["histogram", "percentile", "moving_average", "minmax"]
"""What decides the range of an activation; ``histogram`` clips for the least squared error."""
Sweep: TypeAlias = Literal["keep-one-float", "quantise-one"]
"""How layers are ordered: all int8 but one, or one alone."""
