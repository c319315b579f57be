"""Remove what only renames axes, and reduce the rest to ``reshape`` and ``permute_dims``.

Before:  a = expand_dims(x, 0);  b = squeeze(a, 0);  c = permute_dims(b, p);  d = permute_dims(c, q)
After:   d = permute_dims(x, p∘q)

A reshape is a view and costs nothing on the device; a transpose costs a pass over memory. Exported
graphs are full of both, and of casts, broadcasts and additions that change nothing.
"""

import math

import tvm
from tvm import relax
from tvm.relax.op import permute_dims

from pock_tvm.relay_passes.rewrite import is_call_to, rewrite_main, static_shape
from pock_tvm.relay_passes.vjp.broadcast import reshape

_RENAMES = ("relax.expand_dims", "relax.squeeze", "relax.flatten")
_NEUTRAL = {"relax.add": 0.0, "relax.subtract": 0.0, "relax.multiply": 1.0, "relax.divide": 1.0}


@tvm.transform.module_pass(opt_level=0, name="SimplifyShapes")
class SimplifyShapes:
    """Merge views and transposes; drop casts, broadcasts and arithmetic without effect."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``."""
        return relax.transform.DeadCodeElimination()(rewrite_main(mod, _Simplifier().simplify))


class _Simplifier:
    def __init__(self) -> None:
        self.values: dict[relax.Var, relax.Expr] = {}

    def simplify(self, bb: relax.BlockBuilder, value: relax.Expr) -> relax.Expr:
        value = self.rewritten(bb, value)
        if isinstance(value, relax.Call):
            value = bb.emit(value)
            self.values[value] = bb.lookup_binding(value)
        return value

    def rewritten(self, bb: relax.BlockBuilder, value: relax.Expr) -> relax.Expr:
        if not isinstance(value, relax.Call) or not isinstance(value.ty, relax.TensorType):
            return value
        if is_call_to(value, *_RENAMES):
            value = bb.normalize(reshape(value.args[0], static_shape(value)))
        x = value.args[0] if value.args else None
        producer = self.values.get(x) if isinstance(x, relax.Var) else None
        if is_call_to(value, "relax.permute_dims"):
            return self.transpose(bb, value, producer)
        if is_call_to(value, "relax.reshape"):
            if is_call_to(producer, "relax.reshape"):
                value = bb.normalize(reshape(producer.args[0], static_shape(value)))
            return _unless_same(value)
        if (
            is_call_to(value, "relax.astype")
            and is_call_to(producer, "relax.astype")
            and _loses_nothing(producer, value)
        ):
            value = bb.normalize(relax.op.astype(producer.args[0], value.ty.dtype))
        if is_call_to(value, "relax.broadcast_to", "relax.astype"):
            return _unless_same(value)
        return _without_neutral_operand(value)

    def transpose(
        self, bb: relax.BlockBuilder, value: relax.Call, producer: relax.Expr | None
    ) -> relax.Expr:
        x, axes = value.args[0], permutation_of(value)
        if is_call_to(producer, "relax.permute_dims"):
            inner = permutation_of(producer)
            x, axes = producer.args[0], tuple(inner[a] for a in axes)
        shape = static_shape(x)
        if axes == tuple(range(len(axes))):
            return x
        moved = [a for a in axes if shape[a] != 1]
        if moved == sorted(moved):  # only axes of extent one change place: the memory stays
            return bb.normalize(reshape(x, [shape[a] for a in axes]))
        return bb.normalize(permute_dims(x, axes))


def permutation_of(call: relax.Call) -> tuple[int, ...]:
    """Return the axes of a ``permute_dims``, its default (reverse) made explicit."""
    rank = len(static_shape(call.args[0]))
    if call.attrs.axes is None:
        return tuple(reversed(range(rank)))
    return tuple(int(axis) % rank for axis in call.attrs.axes)


def _loses_nothing(first: relax.Call, cast: relax.Call) -> bool:
    """Tell whether the cast before ``cast`` only widened an integer, as importers do to indices."""
    dtypes = [str(first.args[0].ty.dtype), str(first.ty.dtype), str(cast.ty.dtype)]
    return dtypes[0] == dtypes[2] == "int32" and dtypes[1] == "int64"


def _unless_same(call: relax.Call) -> relax.Expr:
    """Return the operand itself where the call changes neither its shape nor its dtype."""
    x = call.args[0]
    same = static_shape(x) == static_shape(call) and x.ty.dtype == call.ty.dtype
    return x if same else call


def _without_neutral_operand(call: relax.Call) -> relax.Expr:
    """Drop ``x + 0`` and ``x * 1``, where the constant does not widen the shape."""
    neutral = _NEUTRAL.get(getattr(call.op, "name", ""))
    if neutral is None:
        return call
    commutes = call.op.name in ("relax.add", "relax.multiply")
    pairs = [(call.args[0], call.args[1])]
    if commutes:
        pairs.append((call.args[1], call.args[0]))
    for x, constant in pairs:
        if (
            isinstance(constant, tvm.ir.GenericConst)
            and static_shape(x) == static_shape(call)
            and math.prod(static_shape(constant)) > 0
            and (constant.value.numpy() == neutral).all()
        ):
            return x
    return call
