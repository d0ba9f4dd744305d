"""Quantisation of exported networks and the gate that limits its loss."""

import logging

# torchao announces every optional GPU library it does not find, and torch a deprecation in torchao's own imports.
for _name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(_name).setLevel(logging.ERROR)
