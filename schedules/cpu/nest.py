"""Loop nests written as expressions: a loop takes its body as a function of the loop variable."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tvm_ffi
from tvm import ir, tirx

Body = Callable[[Any], Any]
SERIAL, PARALLEL = tirx.ForKind.SERIAL, tirx.ForKind.PARALLEL
VECTORIZED, UNROLLED = tirx.ForKind.VECTORIZED, tirx.ForKind.UNROLLED


def loop(name: str, extent: Any, dtype: str, body: Body, kind: Any = SERIAL) -> Any:
    """Return ``for name in range(extent): body(name)``; a loop of one round is only its body."""
    if isinstance(extent, int) and extent == 1:
        return body(tirx.const(0, dtype))
    variable = tirx.Var(name, dtype)
    extent = tirx.const(extent, dtype) if isinstance(extent, int) else extent
    return tirx.For(variable, tirx.const(0, dtype), extent, kind, body(variable))


def sequence(*statements: Any) -> Any:
    """Run statements one after the other; None stands for nothing."""
    present = [s for s in statements if s is not None]
    return present[0] if len(present) == 1 else tirx.SeqStmt(present)


def rewrite(expr: Any, values: Mapping[Any, Any], loads: Mapping[Any, Body] | None = None) -> Any:
    """Replace variables, and loads from the buffers in ``loads``, in an expression."""

    def variable(v: Any) -> Any:
        return values.get(v, v)

    def load(node: Any) -> Any:
        if loads is not None and node.source in loads:
            return loads[node.source](node)
        return node

    return tvm_ffi.structural_map(expr, [(ir.TensorLoad, load), (ir.Var, variable)])


def find(node: Any, kind: Any) -> list[Any]:
    """Return every occurrence of an IR node type, operands first."""
    found: list[Any] = []
    tvm_ffi.structural_walk(node, (kind, found.append))
    return found


def unravel(index: Any, extents: Sequence[int]) -> list[Any]:
    """Split a flat index into one per extent, the last fastest."""
    parts: list[Any] = []
    for extent in reversed(extents[1:]):
        parts.append(index % extent)
        index = index // extent
    return [index, *reversed(parts)] if extents else []
