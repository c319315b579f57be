"""What a schedule asks about the blocks of a kernel.

After ``FuseTIR`` a kernel is a row of loop nests under the root block, one per ``te.compute``; a
`Stage` is one of them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm import s_tir, sym, tirx
from tvm.ir import Call, TensorLoad
from tvm.tirx import BufferStore, IterVar, Var


@dataclass(frozen=True)
class Stage:
    """One block under the root, and the reference that schedule primitives take."""

    rv: Any
    block: Any

    @property
    def name(self) -> str:
        """Return the block's name, unique in its kernel."""
        return str(self.block.name_hint)

    @property
    def kernel(self) -> str | None:
        """Return what our own lowering calls this block (``pock.kernel``), if it is one of ours."""
        return str(self.block.annotations.get("pock.kernel", "")) or None

    @property
    def spatial(self) -> list[Any]:
        """Return the axes whose points are independent, in order; none for a scalar.

        TVM gives the block of a scalar one axis of extent 1, which nothing uses.
        """
        if isinstance(self.block.body, BufferStore) and not self.block.body.indices:
            return []
        return [v for v in self.block.iter_vars if v.iter_type == IterVar.DataPar]

    @property
    def reduced(self) -> list[Any]:
        """Return the axes that are summed (or maximised) over, in order."""
        return [v for v in self.block.iter_vars if v.iter_type == IterVar.CommReduce]

    @property
    def is_tensor_expression(self) -> bool:
        """Tell whether this is one ``te.compute``: one store, indexed by the spatial axes."""
        body, axes = self.block.body, self.spatial
        return (
            isinstance(body, BufferStore)
            and all(
                v.iter_type in (IterVar.DataPar, IterVar.CommReduce) for v in self.block.iter_vars
            )
            and len(body.indices) == len(axes)
            and all(i.same_as(v.var) for i, v in zip(body.indices, axes, strict=True))
        )

    @property
    def is_injective(self) -> bool:
        """Tell whether every output element is one expression, without a reduction."""
        return self.is_tensor_expression and not self.reduced

    @property
    def is_reduction(self) -> bool:
        """Tell whether every output element is folded over reduced axes."""
        return self.is_tensor_expression and bool(self.reduced) and self.block.init is not None

    @property
    def output(self) -> Any:
        """Return the buffer that the store writes."""
        return self.block.body.buffer

    @property
    def points(self) -> int:
        """Return how often the store runs."""
        return product(extent(v) for v in self.block.iter_vars)


def stages(sch: s_tir.Schedule) -> list[Stage]:
    """Return the kernel's stages in program order."""
    return [Stage(rv, sch.get(rv)) for rv in sch.get_child_blocks(sch.get_sblock("root"))]


def has_stages(func: tirx.PrimFunc) -> bool:
    """Tell whether the kernel is loop nests under a root block, not one opaque block."""
    return bool(func.body.block.name_hint == "root")


def extent(axis: Any) -> int:
    """Return the extent of an axis."""
    return int(axis.dom.extent)


def product(numbers: Iterable[int]) -> int:
    """Multiply numbers."""
    result = 1
    for number in numbers:
        result *= number
    return result


def is_parameter(func: tirx.PrimFunc, buffer: Any) -> bool:
    """Tell whether the caller sees the buffer."""
    return any(buffer.same_as(p) for p in func.params)


def walk(node: Any, kinds: Any, visit: Callable[[Any], Any]) -> None:
    """Call ``visit`` at every occurrence of the node kinds, parents first."""
    tvm_ffi.structural_walk(node, (kinds, visit), order="pre")


def loads(node: Any) -> list[Any]:
    """Return every buffer load in a statement or expression."""
    found: list[Any] = []

    def keep(load: Any) -> None:
        found.append(load)

    walk(node, TensorLoad, keep)
    return found


def uses(node: Any, variables: Iterable[Any]) -> bool:
    """Tell whether an expression or statement mentions one of the variables."""
    wanted, found = list(variables), []

    def look(var: Any) -> None:
        if any(var.same_as(w) for w in wanted):
            found.append(var)

    walk(node, Var, look)
    return bool(found)


def collapsible(stage: Stage) -> int:
    """Return how many trailing spatial axes act as one contiguous axis in every access.

    ``y[n, i, j, c] = x[n, i, j, c] · s[n]`` has three, ``x[n, i, j, c] + b[c]`` has one. None (0)
    is left where even the last axis is read with a stride, or decides which of two values is read
    (padding, concatenation).
    """
    value, axes = stage.block.body.value, stage.spatial
    for count in range(len(axes), 1, -1):
        tail = axes[len(axes) - count :]
        if all(walks(r, tail) for r in loads(value)) and not _depends_beyond_loads(value, tail):
            return count
    return int(bool(axes) and vectorizable(value, axes[-1]))


def vectorizable(value: Any, axis: Any) -> bool:
    """Tell whether ``value`` at neighbouring points of ``axis`` is one vector expression."""
    return all(walks(r, [axis]) for r in loads(value)) and not any(
        uses(call.args[0], [axis.var]) for call in calls(value) if call_name(call) == IF
    )


IF = "tirx.if_then_else"


def calls(node: Any) -> list[Any]:
    """Return every call of an operator in an expression."""
    found: list[Any] = []

    def keep(call: Any) -> None:
        found.append(call)

    walk(node, Call, keep)
    return found


def call_name(call: Any) -> str:
    """Return the name of the operator that is called."""
    return str(getattr(call.op, "name", ""))


def walks(load: Any, tail: list[Any]) -> bool:
    """Tell whether a load runs contiguously as ``tail`` advances, or stands still."""
    count, variables = len(tail), [v.var for v in tail]
    indices, shape = list(load.indices), list(load.source.shape)
    if not uses(load.indices, variables):
        return True
    if len(indices) < count or uses(indices[: len(indices) - count], variables):
        return False
    last = indices[len(indices) - count :]
    if count == 1:
        return _unit_stride(last[0], variables[0])
    return all(
        i.same_as(v.var) and int(dim) == extent(v)
        for i, v, dim in zip(last, tail, shape[len(shape) - count :], strict=True)
    )


def _unit_stride(index: Any, variable: Any) -> bool:
    if not uses(index, [variable]):
        return True
    coefficients = sym.detect_linear_equation(index, [variable])
    return bool(coefficients) and isinstance(coefficients[0], tirx.IntImm) and coefficients[0] == 1


def _depends_beyond_loads(value: Any, axes: list[Any]) -> bool:
    variables, found = [v.var for v in axes], []

    def look(node: Any) -> Any:
        if isinstance(node, TensorLoad):
            return tvm_ffi.structural.WalkResult.SKIP
        if any(node.same_as(v) for v in variables):
            found.append(node)
        return tvm_ffi.structural.WalkResult.ADVANCE

    walk(value, (TensorLoad, Var), look)
    return bool(found)
