"""Every operator variant through coreai-torch and Apple's runtime: right, or refused and listed here."""

from __future__ import annotations

import pytest
import torch
from tests.export.coreai.conftest import request_of, run_program
from tests.support.operators import VARIANTS, variant

from dualpix.export.artefact import ExportError, quiet
from dualpix.export.coreai.convert import prepare
from dualpix.quantize.score import sqnr_db

# reflection counts its turns by a bitwise and, which coreai-torch 0.4.3 does not lower
REFLECTED = {f"grid {how} reflection{at}" for how in ("bilinear", "nearest") for at in ("", " aligned")}
REFUSED = {"searchsorted", *REFLECTED}
RIGHT_DB = 80.0


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("name", VARIANTS)
def test_core_ai_is_right_or_refuses(name: str) -> None:
    module, inputs = variant(name)
    request = request_of(module, inputs)
    try:
        with quiet():
            (found,) = run_program(prepare(request).program, request)
    except (ExportError, ValueError, IndexError) as error:
        assert name in REFUSED, error
        return
    assert name not in REFUSED, "it works now"
    expected = module(*inputs)
    assert found.shape == expected.shape and sqnr_db(expected, found) > RIGHT_DB
