"""Our lowering of ``relax.nn.layer_norm``, ``group_norm`` and ``rms_norm``.

TVM's own refuse float64, which gradients are checked in, or compute in float32 whatever comes. The
block that writes the output is marked for the schedules.
"""

import math
from collections.abc import Callable
from typing import Any

from tvm import relax, te, tirx
from tvm.te import Tensor


def _split_axes(rank: int, axes: list[int]) -> tuple[list[int], list[int]]:
    """Return the axes to normalize over, counted from the front, and the others."""
    normal = sorted(axis % rank for axis in axes)
    return normal, [axis for axis in range(rank) if axis not in normal]


def mean_over(x: Tensor, axes: list[int], value: Callable[[Any, Any], Any], name: str) -> Tensor:
    """Return the mean over ``axes`` of value(outer index, index of x)."""
    shape = [int(extent) for extent in x.shape]
    normal, others = _split_axes(len(shape), axes)
    reduced = {axis: te.reduce_axis((0, shape[axis]), f"r{axis}") for axis in normal}
    share = tirx.const(1 / math.prod(shape[axis] for axis in normal), x.dtype)

    def total(*outer: Any) -> Any:
        place = dict(zip(others, outer, strict=True)) | reduced
        index = [place[axis] for axis in range(len(shape))]
        return te.sum(value(outer, index) * share, axis=list(reduced.values()))

    return te.compute([shape[axis] for axis in others], total, name=name)


def _mean_and_variance(x: Tensor, axes: list[int]) -> tuple[Tensor, Tensor]:
    """Return μ and σ² over ``axes``; μ first, since E[x²] - μ² would cancel."""
    mean = mean_over(x, axes, lambda _, at: x(*at), "mean")

    def squared(row: Any, at: Any) -> Any:
        return (x(*at) - mean(*row)) * (x(*at) - mean(*row))

    return mean, mean_over(x, axes, squared, "variance")


class Normalized:
    """x̂ of a tensor, row by row; a row is what one mean is taken over."""

    def __init__(self, x: Tensor, axes: list[int], epsilon: float, *, centred: bool) -> None:
        self.x, self.centred = x, centred
        self.normal, self.others = _split_axes(len(x.shape), axes)
        if centred:
            self.mean, square = _mean_and_variance(x, axes)
        else:
            square = mean_over(x, axes, lambda _, at: x(*at) * x(*at), "square")
        one, least = tirx.const(1, x.dtype), tirx.const(epsilon, x.dtype)
        self.reciprocal = te.compute(
            square.shape, lambda *row: one / tirx.sqrt(square(*row) + least), name="reciprocal"
        )

    def row(self, at: Any) -> list[Any]:
        """Return the place of the row of an element."""
        return [at[axis] for axis in self.others]

    def column(self, at: Any) -> list[Any]:
        """Return the place of an element in its row."""
        return [at[axis] for axis in self.normal]

    def __call__(self, *at: Any) -> Any:
        """Return x̂ at an index of x."""
        row = self.row(at)
        centred = self.x(*at) - self.mean(*row) if self.centred else self.x(*at)
        return centred * self.reciprocal(*row)


def te_layer_norm(
    x: Tensor, gamma: Tensor, beta: Tensor, axes: list[int], epsilon: float
) -> Tensor:
    """y = (x - μ) / √(σ² + ε) · γ + β, μ and σ² over ``axes``."""
    normed = Normalized(x, axes, epsilon, centred=True)

    def entry(*at: Any) -> Any:
        column = normed.column(at)
        return normed(*at) * gamma(*column) + beta(*column)

    return te.compute(x.shape, entry, name="layer_norm", attrs={"pock.kernel": "layer_norm"})


def te_group_norm(
    x: Tensor, gamma: Tensor, beta: Tensor, axes: list[int], group_axis: int, epsilon: float
) -> Tensor:
    """y = (x - μ) / √(σ² + ε) · γ + β; the channels stand on two axes: group, channel in it."""
    _, others = _split_axes(len(x.shape), axes)
    mean, variance = _mean_and_variance(x, axes)

    def entry(*at: Any) -> Any:
        row = [at[axis] for axis in others]
        channel = at[group_axis] * x.shape[group_axis + 1] + at[group_axis + 1]
        spread = tirx.sqrt(variance(*row) + tirx.const(epsilon, x.dtype))
        return (x(*at) - mean(*row)) / spread * gamma[channel] + beta[channel]

    return te.compute(x.shape, entry, name="group_norm", attrs={"pock.kernel": "group_norm"})


def te_rms_norm(x: Tensor, gamma: Tensor, axes: list[int], epsilon: float) -> Tensor:
    """y = x / √(mean x² + ε) · γ, the mean over ``axes``."""
    normed = Normalized(x, axes, epsilon, centred=False)

    def entry(*at: Any) -> Any:
        return normed(*at) * gamma(*normed.column(at))

    return te.compute(x.shape, entry, name="rms_norm", attrs={"pock.kernel": "rms_norm"})


def _options(call: relax.Call) -> dict[str, Any]:
    axes = [int(axis) for axis in call.attrs.axes]
    return {"axes": axes, "epsilon": float(call.attrs.epsilon)}


def legalize_layer_norm(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Lower ``relax.nn.layer_norm`` with scale and centre, as every importer makes it."""
    if not (call.attrs.scale and call.attrs.center):
        raise ValueError(f"layer_norm without scale or centre: {call}")
    return bb.call_te(te_layer_norm, *call.args, **_options(call), primfunc_name_hint="layer_norm")


def legalize_group_norm(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Lower ``relax.nn.group_norm`` with scale and centre."""
    if not (call.attrs.scale and call.attrs.center):
        raise ValueError(f"group_norm without scale or centre: {call}")
    x, gamma, beta = call.args
    shape, groups = [int(n) for n in x.ty.shape], int(call.attrs.num_groups)
    channel = int(call.attrs.channel_axis) % len(shape)
    spatial = [int(axis) % len(shape) for axis in call.attrs.axes]
    apart = [*shape[:channel], groups, shape[channel] // groups, *shape[channel + 1 :]]
    y = bb.call_te(
        te_group_norm,
        bb.emit(relax.op.reshape(x, apart)),
        gamma,
        beta,
        axes=[channel + 1, *(a + (a > channel) for a in spatial if a != channel)],
        group_axis=channel,
        epsilon=float(call.attrs.epsilon),
        primfunc_name_hint="group_norm",
    )
    return relax.op.reshape(bb.emit(y), shape)


def legalize_rms_norm(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Lower ``relax.nn.rms_norm``."""
    return bb.call_te(te_rms_norm, *call.args, **_options(call), primfunc_name_hint="rms_norm")
