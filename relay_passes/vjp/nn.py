"""VJP rules of normalizations, softmax, pools and the loss."""

from tvm.relax import Call, Expr, Var
from tvm.relax import op as R  # noqa: N812  the name that TVMScript gives the same operators

from pock_tvm.relay_passes.operators import cross_entropy, norm_grad, pool2d
from pock_tvm.relay_passes.vjp.broadcast import normal_axes, reshape, scalar, shape_of
from pock_tvm.relay_passes.vjp.registry import Cotangents, register_vjp


@register_vjp("relax.nn.softmax")
def softmax_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = softmax(x): x̄ = y · (ȳ - Σ ȳ y)."""
    axis = int(call.attrs.axis)
    return (lambda: out * (ct - R.sum(ct * out, axis=[axis], keepdims=True)),)


@register_vjp("relax.nn.log_softmax")
def log_softmax_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = log softmax(x): x̄ = ȳ - exp(y) · Σ ȳ."""
    axis = int(call.attrs.axis)
    return (lambda: ct - R.exp(out) * R.sum(ct, axis=[axis], keepdims=True),)


def _normalize(x: Expr, axes: list[int], epsilon: float, like: Expr) -> tuple[Expr, Expr]:
    """Return x̂ = (x - μ) r and r = 1 / √(σ² + ε), μ and σ² over ``axes``."""
    centred = x - R.mean(x, axis=axes, keepdims=True)
    variance = R.mean(centred * centred, axis=axes, keepdims=True)
    r = R.rsqrt(variance + scalar(epsilon, like))
    return centred * r, r


def _normalize_bar(g: Expr, normed: Expr, r: Expr, axes: list[int]) -> Expr:
    """Return x̄ = r (g - mean g - x̂ mean(g x̂)) for the cotangent g of x̂."""
    mean = R.mean(g, axis=axes, keepdims=True)
    along = R.mean(g * normed, axis=axes, keepdims=True)
    return r * (g - mean - normed * along)


@register_vjp("relax.nn.layer_norm")
def layer_norm_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = γ x̂ + β, x̂ = (x - μ) r: x̄ = r (g - mean g - x̂ mean(g x̂)), γ̄ = Σ ȳ x̂, β̄ = Σ ȳ.

    r = 1 / √(σ² + ε) and g = ȳ γ. Only x is kept: μ and r are found again from each row while it
    is in cache.
    """
    x, gamma, _ = call.args
    axes, epsilon = _normal_axes(call), float(call.attrs.epsilon)
    others = [axis for axis in range(len(shape_of(x))) if axis not in axes]
    return (
        lambda: norm_grad.layer_norm_grad(x, ct, gamma, axes, epsilon),
        lambda: norm_grad.layer_norm_scale_grad(x, ct, axes, epsilon),
        lambda: R.sum(ct, axis=others) if others else ct,
    )


@register_vjp("relax.nn.rms_norm")
def rms_norm_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = γ x̂, x̂ = x r, r = 1 / √(mean x² + ε), g = ȳ γ: x̄ = r (g - x̂ mean(g x̂)), γ̄ = Σ ȳ x̂.

    Only x is kept, as for ``layer_norm``.
    """
    x, gamma = call.args
    axes, epsilon = _normal_axes(call), float(call.attrs.epsilon)
    return (
        lambda: norm_grad.rms_norm_grad(x, ct, gamma, axes, epsilon),
        lambda: norm_grad.rms_norm_scale_grad(x, ct, axes, epsilon),
    )


def _normal_axes(call: Call) -> list[int]:
    return list(normal_axes(call.attrs.axes, len(shape_of(call.args[0]))))


@register_vjp("pock.cross_entropy")
def cross_entropy_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """The gradient recomputes the softmax from the logits: nothing is saved."""
    return (lambda: cross_entropy.cross_entropy_grad(call, ct), None)


@register_vjp("relax.nn.group_norm")
def group_norm_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """As layer_norm over the axes and the channels of one group; γ and β are per channel."""
    x, gamma, _ = call.args
    shape, groups = shape_of(x), int(call.attrs.num_groups)
    channel = int(call.attrs.channel_axis) % len(shape)
    axes = normal_axes(call.attrs.axes, len(shape))
    # The channel axis becomes two: groups, and the channels in each of them.
    apart = (*shape[:channel], groups, shape[channel] // groups, *shape[channel + 1 :])
    reduced = [channel + 1, *(axis + (axis > channel) for axis in axes if axis != channel)]
    others = [axis for axis in range(len(shape)) if axis != channel]
    per_channel = [shape[channel] if axis == channel else 1 for axis in range(len(shape))]
    normed, r = _normalize(reshape(x, apart), reduced, float(call.attrs.epsilon), x)

    def x_bar() -> Expr:
        g = ct * reshape(gamma, per_channel) if call.attrs.scale else ct
        return reshape(_normalize_bar(reshape(g, apart), normed, r, reduced), shape)

    return (
        x_bar,
        (lambda: R.sum(ct * reshape(normed, shape), axis=others)) if call.attrs.scale else None,
        (lambda: R.sum(ct, axis=others)) if call.attrs.center else None,
    )


@register_vjp("relax.nn.max_pool2d")
def max_pool2d_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = max of x over each window: ȳ goes to the first greatest pixel, as in PyTorch.

    A byte per window is kept, which ``KeepPoolTaps`` has the forward pass make.
    """
    (x,), pool = call.args, pool2d.Pool.of(call)
    return (lambda: pool2d.max_pool2d_grad(pool2d.max_pool2d_taps(x, out, pool), ct, pool),)


@register_vjp("relax.nn.avg_pool2d")
def avg_pool2d_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = mean of x over each window: each pixel gets its share of ȳ. Nothing is saved."""
    pool = pool2d.Pool.of(call)
    if pool.dilation != (1, 1):
        raise ValueError(f"an average pool with dilation: {call}")
    return (lambda: pool2d.avg_pool2d_grad(ct, pool),)


@register_vjp("relax.nn.adaptive_avg_pool2d")
def adaptive_avg_pool2d_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = mean of x over each of the given number of windows; of a single one, ȳ / n everywhere."""
    if call.attrs.layout != "NHWC":
        raise ValueError(f"a pool is not channels-last: {call}")
    n, height, width, channels = shape_of(call.args[0])

    def x_bar() -> Expr:
        if shape_of(out)[1:3] == (1, 1):
            share = ct * scalar(1 / (height * width), ct)
            return R.broadcast_to(share, (n, height, width, channels))
        return pool2d.adaptive_avg_pool2d_grad(ct, (height, width))

    return (x_bar,)


@register_vjp("relax.nn.softplus")
def softplus_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = log(1 + exp(βx)) / β, or x itself beyond a threshold of βx: x̄ = ȳ · σ(βx), or ȳ."""
    (x,) = call.args
    beta, threshold = float(call.attrs.beta), float(call.attrs.threshold)

    def x_bar() -> Expr:
        scaled = x * scalar(beta, x)
        return R.where(R.greater(scaled, scalar(threshold, x)), ct, ct * R.sigmoid(scaled))

    return (x_bar,)
