"""Vulkan: GPU of Android, float32 or float16. Produced on any machine, run on none that has the wheel's runtime.

Known limits of the backend (executorch 1.5.1), each an error before minutes of lowering: convolutions at batch 1 only;
bicubic and nearest-exact resize and ``torch.roll`` end in a crash of its passes. Attention by
``scaled_dot_product_attention`` is rewritten to batched products, because the minus infinity of its mask breaks the
serialiser.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import fx

from dualpix.capture.files import atomic_path
from dualpix.export.artefact import Artefact, BuildRequest, ExportError, quiet
from dualpix.export.executorch.file import check_program_file
from dualpix.export.executorch.program import check_structure, lower_for, network_macs
from dualpix.export.executorch.runtime import registered
from dualpix.export.reasons import reason_of
from dualpix.quantize.graph import attention_as_products, float_graph, run_eager
from dualpix.quantize.graph.resizing import is_by_ratio, resize_by_products
from dualpix.quantize.keep import module_path
from dualpix.quantize.score import Predict

BACKEND = "VulkanBackend"
_OPTIONS = {"fp32": {}, "fp16": {"force_fp16": True}}
_CRASHING = {
    "aten.upsample_bicubic2d": "bicubic resize; bilinear is delegated",
    "aten._upsample_nearest_exact": "nearest-exact resize; nearest is delegated",
    "aten.roll": "torch.roll; a slice and a concatenation are delegated",
}


def can_build() -> str | None:
    """``None``, or what is missing to produce a file here."""
    try:
        import executorch.backends.vulkan.partitioner.vulkan_partitioner  # noqa: F401
    except ImportError as error:
        return f"{error.name or error} is not installed: pip install executorch"
    return None


def can_run() -> str | None:
    """Why a file does not run here: a GPU or a software driver (Mesa's lavapipe) does not help without the backend."""
    missing = registered(BACKEND)
    return missing and f"{missing}; build it from source with EXECUTORCH_BUILD_VULKAN=ON, or use a phone"


def load(path: Path, input_names: tuple[str, ...], output_names: tuple[str, ...], threads: int = 1) -> Predict | None:
    """``None``: not run here; raises :class:`ExportError` where the file is damaged."""
    check_program_file(path)
    return None


def build(request: BuildRequest) -> Artefact:
    """Lower ``request.module`` and write a ``.pte`` whose structure has been checked.

    Raises:
        ExportError: the network is beyond the backend's limits or cannot be lowered, or the file is another.
    """
    if request.precision not in _OPTIONS:
        raise ExportError(f"Vulkan has no precision '{request.precision}'", expected=f"one of {', '.join(_OPTIONS)}")
    if (missing := can_build()) is not None:
        raise ExportError(missing)
    with quiet(), torch.no_grad():
        expected = run_eager(request.module, request.inputs)
        graph = float_graph(request.module, request.inputs)
        attention_as_products(graph)
        resize_by_products(graph, lambda node: not is_by_ratio(node), 1 << 20)
        check_limits(graph.graph.nodes)
        total = network_macs(request.module, request.inputs)
        try:
            from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner

            partitioner = VulkanPartitioner(dict(_OPTIONS[request.precision]))
            buffer, delegation = lower_for(graph, request.inputs, partitioner, total)
        except Exception as error:  # the compilers raise anything from AssertionError to their own types
            reason = reason_of(error, request.module, request.inputs)
            raise ExportError(f"Vulkan lowering failed: {reason}") from error
    with atomic_path(request.path) as temporary:
        temporary.write_bytes(buffer)
        structure = check_structure(temporary, request, expected, BACKEND)
    details = {"delegate": BACKEND, "delegates": len(structure.delegates), "not_run_here": can_run()}
    return Artefact(request.path, len(buffer), None, delegation, details)


def check_limits(nodes: Iterable[fx.Node]) -> None:
    """Whether the backend can take a float graph.

    Raises:
        ExportError: it cannot; names the operator and its submodule.
    """
    for node in nodes:
        name = str(node.target)
        crashing = next((text for prefix, text in _CRASHING.items() if name.startswith(prefix)), None)
        if node.op != "call_function":
            continue
        where = f"in '{module_path(node)}'" if module_path(node) else "in the network's forward"
        if crashing:
            raise ExportError(f"Vulkan does not take {crashing.split(';')[0]} {where}", hint=crashing.split("; ")[1])
        if name.startswith("aten.conv2d.") and (batch := int(node.meta["val"].shape[0])) != 1:
            raise ExportError(
                f"a convolution {where} has batch {batch}",
                expected="batch 1, all that Vulkan delegates",
                hint="call a siamese encoder twice instead of stacking the views",
            )
