"""MIL operators in torch, one function each; what is in :data:`OPERATORS` can be interpreted."""

from dualpix.export.coreml.operators import arithmetic, layers, movement, resizing, weights
from dualpix.export.coreml.operators.call import OPERATORS, Call, Operator, OperatorError

__all__ = ["OPERATORS", "Call", "Operator", "OperatorError", "arithmetic", "layers", "movement", "resizing", "weights"]
