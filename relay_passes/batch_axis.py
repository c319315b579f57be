"""Which operands of an operator hold samples along their first axis, given that its result does.

``y = conv2d(x, w)``: sample i of y depends on sample i of x and on all of w. Where such a statement
is true of every operator on the way, samples can be computed some at a time.
"""

from tvm import relax

from pock_tvm.relay_passes.rewrite import is_call_to, static_shape

_NAMES = """
    abs add astype clip cos divide equal erf exp floor greater greater_equal less less_equal log
    logical_and logical_not logical_or maximum minimum multiply negative not_equal power rsqrt
    sigmoid sign sin sqrt square subtract tanh where
    nn.gelu nn.gelu_tanh nn.leakyrelu nn.relu nn.silu nn.softplus
"""
ELEMENTWISE = {f"relax.{name}" for name in _NAMES.split()}
_WINDOWS = ("nn.conv2d", "nn.avg_pool2d", "nn.max_pool2d", "nn.adaptive_avg_pool2d")
_ALONG_AXES = (
    *("nn.softmax", "nn.log_softmax", "nn.layer_norm", "nn.rms_norm", "nn.group_norm"),
    *("mean", "sum", "max", "min", "variance", "std"),
)


def flat_operands(call: relax.Call) -> list[relax.Expr]:
    """Return the tensor operands, those of a tuple one by one; shapes and numbers are left out."""
    fields = [f for a in call.args for f in (a.fields if isinstance(a, relax.Tuple) else [a])]
    return [f for f in fields if isinstance(f.ty, relax.TensorType)]


def sample_operands(call: relax.Call) -> tuple[bool, ...] | None:
    """Tell for each of ``flat_operands`` whether its first axis runs over samples.

    None where the result mixes samples, or where that is not known.
    """
    operands = flat_operands(call)
    ranks = [len(x.ty.shape) for x in operands]
    if not isinstance(call.ty, relax.TensorType) or not call.ty.shape:
        return None
    rows, rank = int(call.ty.shape[0]), len(call.ty.shape)
    if is_call_to(call, *ELEMENTWISE):
        return tuple(
            r == rank and int(x.ty.shape[0]) == rows for x, r in zip(operands, ranks, strict=True)
        )
    only_first = (True, *(False,) * (len(operands) - 1))
    if is_call_to(call, *(f"relax.{name}" for name in _WINDOWS)):
        return only_first
    if is_call_to(call, *(f"relax.{name}" for name in _ALONG_AXES)):
        return only_first if _leaves_first_axis(call, ranks[0]) else None
    if is_call_to(call, "relax.permute_dims"):
        axes = call.attrs.axes
        return only_first if axes is not None and int(axes[0]) % rank == 0 else None
    if is_call_to(call, "relax.reshape"):
        return only_first  # a sample is one stretch of memory before and after
    if is_call_to(call, "relax.concat"):
        return (True,) * len(operands) if int(call.attrs.axis) % rank else None
    if is_call_to(call, "relax.take"):
        return (False, True) if int(call.attrs.axis or 0) == 0 and ranks[1] > 0 else None
    if is_call_to(call, "relax.matmul"):
        return _matmul(operands, rows)
    if is_call_to(call, "relax.strided_slice"):
        return only_first if all(int(a.value) % rank for a in call.args[1].fields) else None
    if is_call_to(call, "pock.int8_conv2d"):
        return only_first
    if is_call_to(call, "pock.int8_words", "pock.int8_scaled"):
        return (True, True, False)[: len(operands)]
    if is_call_to(call, "pock.attention"):
        if rank < 3:
            return None
        masks = operands[3:]
        return (True,) * 3 + tuple(
            len(x.ty.shape) == rank and int(x.ty.shape[0]) == rows for x in masks
        )
    return None


def _leaves_first_axis(call: relax.Call, rank: int) -> bool:
    axes = getattr(call.attrs, "axes", None)
    axes = getattr(call.attrs, "axis", None) if axes is None else axes
    if axes is None:
        return False
    axes = [axes] if isinstance(axes, int) else list(axes)
    channel = [int(call.attrs.channel_axis)] if hasattr(call.attrs, "channel_axis") else []
    return bool(axes) and all(int(a) % rank for a in [*axes, *channel])


def _matmul(operands: list[relax.Expr], rows: int) -> tuple[bool, ...] | None:
    left, right = (static_shape(x) for x in operands)
    if len(left) < 2 or left[0] != rows:
        return None
    return True, len(right) == len(left) > 2 and right[0] == rows
