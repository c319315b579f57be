"""What kind of expression a block of a kernel stores."""

from typing import Any

from tvm import ir, tirx

SPATIAL, REDUCE = 0, 2  # tirx.IterVar.DataPar, tirx.IterVar.CommReduce


def is_elementwise(block: Any) -> bool:
    """Tell whether a block stores one expression per point, at the point's own indices."""
    body = block.body
    return (
        isinstance(body, tirx.BufferStore)
        and all(v.iter_type == SPATIAL for v in block.iter_vars)
        and all(any(i.same_as(v.var) for v in block.iter_vars) for i in body.indices)
    )


def is_sum(block: Any) -> bool:
    """Tell whether a block adds expressions up, each at the point's own indices."""
    body, init = block.body, block.init
    return (
        isinstance(body, tirx.BufferStore)
        and isinstance(init, tirx.BufferStore)
        and isinstance(init.value, tirx.FloatImm)
        and init.value.value == 0
        and isinstance(body.value, tirx.Add)
        and isinstance(body.value.a, ir.TensorLoad)
        and body.value.a.source.same_as(body.buffer)
        and all(any(i.same_as(v.var) for v in block.iter_vars) for i in body.indices)
    )


def is_sum_of_products(block: Any) -> bool:
    """Tell whether a block adds products of two operands to an output of known extents."""
    body, init = block.body, block.init
    if not isinstance(body, tirx.BufferStore) or not isinstance(init, tirx.BufferStore):
        return False
    starts_at_zero = isinstance(init.value, tirx.FloatImm) and init.value.value == 0
    constant = all(isinstance(v.dom.extent, tirx.IntImm) for v in block.iter_vars)
    return starts_at_zero and constant and factors(body.value, body.buffer) is not None


def factors(value: Any, result: Any) -> tuple[Any, Any] | None:
    """Match ``C[…] + x · y``."""
    if not isinstance(value, tirx.Add) or not isinstance(value.b, tirx.Mul):
        return None
    if not isinstance(value.a, ir.TensorLoad) or not value.a.source.same_as(result):
        return None
    return value.b.a, value.b.b
