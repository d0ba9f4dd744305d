"""Focus bracketing: plans in diopters, lenses that move by steps, and what was measured of them."""
