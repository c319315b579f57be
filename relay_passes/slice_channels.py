"""Compute the gradient of a weight only in the input channels that learn.

Before:  w̄ = conv2d_weight_grad(x, ȳ);  return loss, w̄
After:   xs = take(x, channels)                              # right behind x, in the forward pass
         s = conv2d_weight_grad(xs, ȳ);  return loss, s      # and a parameter w[channels]

``w[channels]`` is the slice as a parameter of its own: to the optimizer it is like any other.
``WriteChannels`` then makes it a part of ``w`` again. The forward pass and the gradient of the
input read the whole weight, where it lies; of the input only ``xs`` outlives the forward pass.

Why by position, rather than with the channels that learn permuted to a prefix: a prefix of ``w``
needs a prefix of ``x``, and behind a residual addition ``x`` is a stream that every block reads.
One order cannot put each block's channels first, so each block would gather all of ``x``, and
scatter its gradient back; gathering the part that learns moves a quarter of that or less, once.

The slice of a gradient is pushed towards its factors: through sums, transposes and views down to
the products. Where that ends early the gradient is computed whole and then sliced: right, but not
cheap. Run it after ``SimplifyShapes`` has merged what ``DeriveBackward`` made.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import tvm
from tvm import relax
from tvm.relax.op import permute_dims, reshape, take

from pock_tvm.relay_passes.operators.conv2d import Window, weight_grad
from pock_tvm.relay_passes.rewrite import (
    bindings_of,
    is_call_to,
    returned_fields,
    static_shape,
    substitute,
)
from pock_tvm.relay_passes.simplify_shapes import permutation_of


class StoredSlice(NamedTuple):
    """Positions along one axis of a weight, in the layout that the kernels read."""

    axis: int
    channels: tuple[int, ...]


def slice_name(weight: str) -> str:
    """Return the name of the slice of a weight as a parameter."""
    return f"{weight}[channels]"


def indices_of(channels: Sequence[int]) -> relax.Expr:
    """Return positions as a constant of the graph."""
    return relax.const(np.asarray(channels, "int32"), "int32")


@tvm.transform.module_pass(opt_level=0, name="SliceChannels")
class SliceChannels:
    """Return slices of the gradients of some weights, and add those slices as parameters.

    Args:
        slices: by the name of the weight.
        trainable: the parameters whose gradients ``main`` returns last, in order.
    """

    def __init__(self, slices: Mapping[str, StoredSlice], trainable: Sequence[str]) -> None:
        self.slices = dict(slices)
        self.trainable = tuple(trainable)

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``."""
        if not self.slices:
            return mod
        out = mod.clone()
        out["main"] = self._sliced(mod["main"])
        return relax.transform.DeadCodeElimination()(out)

    def _sliced(self, func: relax.Function) -> relax.Function:
        bindings = [b for b in bindings_of(func) if not isinstance(b.value, relax.Tuple)]
        outputs = returned_fields(func)
        first = len(outputs) - len(self.trainable)
        wanted = {
            first + i: _Demand(outputs[first + i], self.slices[name])
            for i, name in enumerate(self.trainable)
            if name in self.slices
        }
        demands = _spread(wanted.values(), {b.var: b.value for b in bindings})

        params = [relax.Var(p.name, p.ty) for p in func.params]
        env: dict[relax.Var, relax.Expr] = dict(zip(func.params, params, strict=True))
        by_name = {p.name: p for p in params}
        parts = [_part(by_name[name], chosen) for name, chosen in self.slices.items()]
        made: dict[_Demand, relax.Expr] = {}
        bb = relax.BlockBuilder()
        with bb.function("main", [*params, *parts], attrs=dict(func.attrs or {})):
            with bb.dataflow():
                for p in func.params:
                    for demand in demands.get(p, ()):
                        made[demand] = bb.emit(_take(env[p], demand))
                for binding in bindings:
                    env[binding.var] = bb.emit(substitute(binding.value, env))
                    for demand in demands.get(binding.var, ()):
                        made[demand] = bb.emit(_emitted(demand, binding.value, env, made))
                results = [
                    made[wanted[i]] if i in wanted else substitute(v, env)
                    for i, v in enumerate(outputs)
                ]
                result = bb.emit_output(relax.Tuple(results))
            bb.emit_func_output(result)
        return bb.get()["main"]


@dataclass(frozen=True)
class _Demand:
    """A slice of a value that something reads.

    A gradient's is pushed into the products that make it; an activation's only through views.
    """

    var: relax.Var
    slice: StoredSlice
    is_gradient: bool = True

    def moved(self, operand: relax.Expr, axis: int) -> "_Demand":
        """Return the same positions along an axis of an operand."""
        return _Demand(operand, self.slice._replace(axis=axis), self.is_gradient)


def _spread(
    wanted: Iterable[_Demand], values: Mapping[relax.Var, relax.Expr]
) -> dict[relax.Var, dict[_Demand, None]]:
    """Return by value the slices of it that are needed, those that others are made of included."""
    demands: dict[relax.Var, dict[_Demand, None]] = {}
    ahead = list(wanted)
    while ahead:
        demand = ahead.pop()
        demands.setdefault(demand.var, {})[demand] = None
        ahead += _operands(demand, values.get(demand.var))
    return demands


def _operands(demand: _Demand, value: relax.Expr | None) -> list[_Demand]:
    """Return the slices of operands that a slice is made from; none where it is taken as it is."""
    found = _pushed(demand, value)
    return found if all(isinstance(d.var, relax.Var) for d in found) else []


def _pushed(demand: _Demand, value: relax.Expr | None) -> list[_Demand]:
    axis, channels = demand.slice
    if is_call_to(value, "relax.permute_dims"):
        return [demand.moved(value.args[0], permutation_of(value)[axis])]
    if is_call_to(value, "relax.reshape"):
        source = _axis_before(static_shape(value.args[0]), static_shape(value), axis)
        return [] if source is None else [demand.moved(value.args[0], source)]
    if not demand.is_gradient:
        return []
    if is_call_to(value, "relax.add", "relax.multiply"):
        shape = static_shape(value)
        if not all(static_shape(a) in ((), shape) for a in value.args):
            return []
        return [demand.moved(a, axis) for a in value.args if static_shape(a) == shape]
    if is_call_to(value, "relax.matmul"):
        factor = _factor(value, axis)
        return [] if factor is None else [replace(demand.moved(*factor), is_gradient=False)]
    if is_call_to(value, "pock.conv2d_weight_grad"):
        x, ct = (replace(demand.moved(a, 3), is_gradient=False) for a in value.args)
        if _is_depthwise(value):
            return [x, ct]
        return [replace(x, slice=StoredSlice(3, _in_all_groups(value, channels)))]
    return []


def _emitted(
    demand: _Demand,
    value: relax.Expr,
    env: Mapping[relax.Var, relax.Expr],
    made: Mapping[_Demand, relax.Expr],
) -> relax.Expr:
    """Return the slice of ``value``, made from slices of its operands where there are such."""
    operands = _operands(demand, value)
    if not operands:
        return _take(env[demand.var], demand)
    parts = [made[o] for o in operands]
    axis, channels = demand.slice
    shape = list(static_shape(value))
    shape[axis] = len(channels)
    if is_call_to(value, "relax.permute_dims"):
        return permute_dims(parts[0], permutation_of(value))
    if is_call_to(value, "relax.reshape"):
        return reshape(parts[0], shape)
    if is_call_to(value, "relax.matmul"):
        x, y = (substitute(a, env) for a in value.args)
        is_row = axis == len(shape) - 2
        return relax.op.matmul(parts[0], y) if is_row else relax.op.matmul(x, parts[0])
    if is_call_to(value, "pock.conv2d_weight_grad"):
        window = Window.of(value)
        if _is_depthwise(value):
            x, ct = parts
            return weight_grad(x, ct, tuple(shape), replace(window, groups=len(channels)))
        return weight_grad(parts[0], substitute(value.args[1], env), tuple(shape), window)
    rest = iter(parts)
    arguments = [next(rest) if static_shape(a) else substitute(a, env) for a in value.args]
    return relax.Call(value.op, arguments, value.attrs)


def _take(value: relax.Expr, demand: _Demand) -> relax.Expr:
    return take(value, indices_of(demand.slice.channels), axis=demand.slice.axis)


def _part(weight: relax.Var, chosen: StoredSlice) -> relax.Var:
    shape = list(static_shape(weight))
    shape[chosen.axis] = len(chosen.channels)
    return relax.Var(slice_name(weight.name), relax.TensorType(shape, weight.ty.dtype))


def _factor(matmul: relax.Call, axis: int) -> tuple[relax.Expr, int] | None:
    """Return the operand of a product that an axis of it comes from, and where it has that axis."""
    if any(len(static_shape(a)) != 2 for a in matmul.args):
        return None
    return matmul.args[axis], axis


def _axis_before(source: Sequence[int], target: Sequence[int], axis: int) -> int | None:
    """Return the axis of ``source`` that a reshape keeps as ``axis`` of ``target``, if any."""
    for at, extent in enumerate(source):
        if extent == target[axis] and math.prod(source[:at]) == math.prod(target[:axis]):
            return at
    return None


def _is_depthwise(call: relax.Call) -> bool:
    shape = [int(n) for n in call.attrs["w_shape"]]
    return shape[2] == 1 and shape[3] == int(call.attrs["groups"]) > 1


def _in_all_groups(call: relax.Call, channels: Sequence[int]) -> tuple[int, ...]:
    """Return the channels of the input that positions within every group stand for."""
    per_group = int(call.attrs["w_shape"][2])
    return tuple(g * per_group + c for g in range(int(call.attrs["groups"])) for c in channels)
