"""How sure a disparity is: the evidence, what it has been worth, and what is wrong with a pair as a whole.

Of NumPy alone; :mod:`dualpix.models.predict` judges estimates by it, and losses have its tolerance.
"""

from dualpix.models.confidence.calibration import CONFIDENT, Calibration, parse_calibration

__all__ = ["CONFIDENT", "Calibration", "parse_calibration"]
