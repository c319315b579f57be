"""Our converters of exported PyTorch operators, where TVM's importer has none or loses something.

A converter is ``(node, importer) -> relax.Var``, keyed as the importer keys its own: the operator's
name with its overload. One file per family of operators; each has a table ``CONVERTERS``.
"""

from collections.abc import Callable
from typing import Any

import torch
from tvm import relax

from pock_tvm.frontend.torch_converters import (
    activations,
    convolutions,
    elementwise,
    indexing,
    joining,
    norms,
    padding,
    pools,
    products,
    random_numbers,
    reductions,
    resize,
    scattering,
)
from pock_tvm.frontend.torch_converters.rewritten import DECOMPOSITIONS

__all__ = ["CONVERTERS", "decompositions"]

Converter = Callable[[torch.fx.Node, Any], relax.Var]

CONVERTERS: dict[str, Converter] = {
    **activations.CONVERTERS,
    **convolutions.CONVERTERS,
    **elementwise.CONVERTERS,
    **indexing.CONVERTERS,
    **joining.CONVERTERS,
    **norms.CONVERTERS,
    **padding.CONVERTERS,
    **pools.CONVERTERS,
    **products.CONVERTERS,
    **random_numbers.CONVERTERS,
    **reductions.CONVERTERS,
    **resize.CONVERTERS,
    **scattering.CONVERTERS,
}
"""What to hand to ``ExportedProgramImporter`` as ``custom_convert_map``."""


def decompositions() -> dict[Any, Callable[..., Any]]:
    """Return PyTorch's decompositions, less those of operators that are converted whole.

    An operator that PyTorch would write out as arithmetic stays whole where we have a converter for
    it: one rule of its own then derives it, more exactly and with less to save.
    """
    table = torch.export.default_decompositions()
    for name in CONVERTERS:
        packet, _, overload = name.partition(".")
        operator = getattr(getattr(torch.ops.aten, packet, None), overload, None)
        if operator is not None:
            table.pop(operator, None)
    table.update(DECOMPOSITIONS)
    return table
