"""Which rows of the operands an operator reads, given that only some rows of its result are read.

``y = matmul(x, w)``: row i of y takes row i of x and all of w. Where a statement of this kind holds
for every operator between a slice and a value, only the rows that the slice takes need be computed.

Rows are counted in flat memory, so that a reshape leaves them what they are: a tensor of
[outer · extent · inner] elements, read from ``begin`` to ``end`` along ``extent``.
The first of 128 tokens of 8 samples is (8, 128, 768, 0, 1), be the shape [8, 128, 768] or
[1024, 768].
"""

from dataclasses import dataclass
from math import prod

from tvm import relax
from tvm.ir import GenericConst

from pock_tvm.relay_passes.batch_axis import ELEMENTWISE, flat_operands
from pock_tvm.relay_passes.rewrite import is_call_to, static_shape

_ALONG_AXES = (
    "relax.nn.softmax",
    "relax.nn.log_softmax",
    "relax.nn.layer_norm",
    "relax.nn.rms_norm",
)
_REDUCTIONS = ("relax.mean", "relax.sum", "relax.max", "relax.min")

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Axis:
    """Where rows lie in a shape: ``shape[axis] == outer * extent * inner``."""

    axis: int
    outer: int
    inner: int


@dataclass(frozen=True)
class Rows:
    """The places ``begin`` to ``end`` along the middle of [outer, extent, inner]."""

    outer: int
    extent: int
    inner: int
    begin: int
    end: int

    @property
    def count(self) -> int:
        """Return how many there are."""
        return self.end - self.begin

    def place(self, shape: Shape) -> Axis | None:
        """Return where they lie in a tensor of ``shape``; None where no axis holds all of them."""
        before, after = 1, prod(shape)
        for axis, extent in enumerate(shape):
            after //= max(extent, 1)
            outer, inner = self.outer // before, self.inner // max(after, 1)
            if (before * outer, inner * after) == (self.outer, self.inner):
                return Axis(axis, outer, inner) if extent == outer * self.extent * inner else None
            before *= extent
        return None

    def at(self, shape: Shape, place: Axis) -> "Rows":
        """Return the same rows in another tensor, where ``place`` says."""
        outer = prod(shape[: place.axis]) * place.outer
        inner = place.inner * prod(shape[place.axis + 1 :])
        return Rows(outer, self.extent, inner, self.begin, self.end)

    def narrowed(self, shape: Shape) -> Shape:
        """Return the shape that is left of ``shape`` with these rows alone."""
        place = self.place(shape)
        if place is None:
            raise ValueError(f"no axis of {shape} holds {self}")
        rows = place.outer * self.count * place.inner
        return (*shape[: place.axis], rows, *shape[place.axis + 1 :])

    def joined(self, other: "Rows") -> "Rows | None":
        """Return the least rows that hold both; None where they run along different axes."""
        if (self.outer, self.extent, self.inner) != (other.outer, other.extent, other.inner):
            return None
        begin, end = min(self.begin, other.begin), max(self.end, other.end)
        return Rows(self.outer, self.extent, self.inner, begin, end)


def rows_taken(call: relax.Call) -> Rows | None:
    """Return the rows of its operand that a slice takes; None for anything else.

    A slice takes one constant index, or a range of one axis without a stride.
    """
    if is_call_to(call, "relax.take") and isinstance(call.args[1], GenericConst):
        indices, axis = call.args[1].value.numpy(), call.attrs.axis
        if indices.size != 1 or axis is None:
            return None
        place = int(indices.reshape(()))
        return _along(static_shape(call.args[0]), int(axis), place, place + 1)
    if is_call_to(call, "relax.strided_slice"):
        x, *bounds = call.args
        if not all(isinstance(bound, relax.Tuple) for bound in bounds):
            return None
        axes, begin, end, *strides = ([int(n) for n in bound.fields] for bound in bounds)
        if len(axes) != 1 or strides not in ([], [[1]]):
            return None
        (axis,), shape = axes, static_shape(x)
        first, last, _ = slice(*begin, *end).indices(shape[axis])
        return _along(shape, axis, first, last) if first < last else None
    return None


def _along(shape: Shape, axis: int, begin: int, end: int) -> Rows:
    axis %= len(shape)
    return Rows(prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :]), begin, end)


def operand_rows(call: relax.Call, rows: Rows) -> list[Rows | None] | None:
    """Return what of each of ``flat_operands`` is read for ``rows`` of the result.

    None in the list stands for all of an operand; None instead of the list says that the operator
    cannot compute these rows alone, or that it is not known here.
    """
    operands = [static_shape(x) for x in flat_operands(call)]
    shape = static_shape(call)
    place = rows.place(shape)
    if place is None:
        return None
    others: list[Rows | None] = [None] * (len(operands) - 1)
    if is_call_to(call, "relax.reshape"):
        return [rows] if rows.place(operands[0]) else None
    if is_call_to(call, *ELEMENTWISE):
        return [_broadcast(rows, shape, place, operand) for operand in operands]
    if is_call_to(call, *_ALONG_AXES):
        return None if place.axis in _axes(call) else [rows, *others]
    if is_call_to(call, *_REDUCTIONS):
        return _reduction(call, rows, place, operands[0])
    if is_call_to(call, "relax.permute_dims"):
        axes = call.attrs.axes
        source = len(shape) - 1 - place.axis if axes is None else int(axes[place.axis])
        moved = Axis(source % len(shape), place.outer, place.inner)
        return [rows.at(operands[0], moved)]
    if is_call_to(call, "relax.concat"):
        if int(call.attrs.axis) % len(shape) == place.axis:
            return None
        return [rows.at(operand, place) for operand in operands]
    if is_call_to(call, "relax.matmul"):
        left, right = operands
        if min(len(left), len(right)) < 2 or place.axis == len(shape) - 1:
            return None
        if place.axis == len(shape) - 2:
            return [rows.at(left, Axis(len(left) - 2, place.outer, place.inner)), None]
        return [_broadcast(rows, shape, place, operand) for operand in (left, right)]
    return None


def _broadcast(rows: Rows, shape: Shape, place: Axis, operand: Shape) -> Rows | None:
    """Return the rows of an operand that is broadcast to ``shape``; None where all is read."""
    axis = place.axis - (len(shape) - len(operand))
    if axis < 0 or operand[axis] == 1:
        return None
    return rows.at(operand, Axis(axis, place.outer, place.inner))


def _axes(call: relax.Call) -> set[int]:
    axes = getattr(call.attrs, "axes", None)
    axes = [call.attrs.axis] if axes is None else axes
    rank = len(static_shape(call.args[0]))
    return {int(axis) % rank for axis in axes}


def _reduction(
    call: relax.Call, rows: Rows, place: Axis, operand: Shape
) -> list[Rows | None] | None:
    if call.attrs.axis is None:
        return None
    gone = {int(axis) % len(operand) for axis in call.attrs.axis}
    kept = [a for a in range(len(operand)) if call.attrs.keepdims or a not in gone]
    axis = kept[place.axis]
    return None if axis in gone else [rows.at(operand, Axis(axis, place.outer, place.inner))]
