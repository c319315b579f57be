"""Convert a network of pictures from NCHW to NHWC.

Before:  y = conv2d(x, w)  [NCHW, OIHW];  z = relu(y + b)
After:   xt = permute_dims(x, [0, 2, 3, 1]);  wt = permute_dims(w, [2, 3, 1, 0])
         yt = conv2d(xt, wt)  [NHWC, HWIO];  zt = relu(yt + b);  z = permute_dims(zt, [0, 3, 1, 2])

Channels last makes a 1x1 convolution a matrix product and lets a depthwise one vectorise over
channels, forward and backward. Every value that has an NHWC twin keeps both until the end; those
that nobody reads disappear. ``HoistParameterLayout`` then stores the weights as they are read.
"""

from collections.abc import Callable

import tvm
from tvm import relax
from tvm.relax.op import permute_dims, reshape

from pock_tvm.relay_passes.rewrite import is_call_to, rewrite_main, static_shape

TO_LAST = (0, 2, 3, 1)
TO_FIRST = (0, 3, 1, 2)
OIHW_TO_HWIO = (2, 3, 1, 0)
_AXIS_IN_LAST = {0: 0, 1: 3, 2: 1, 3: 2}

ELEMENTWISE = frozenset(
    f"relax.{name}"
    for name in (  # noqa: SIM905  (a list would take 25 lines)
        "abs add astype clip divide erf exp log maximum minimum multiply negative nn.gelu"
        " nn.gelu_tanh nn.leakyrelu nn.relu nn.relu6 nn.silu power rsqrt sigmoid sqrt square"
        " subtract tanh"
    ).split()
)
POOLS = ("relax.nn.max_pool2d", "relax.nn.avg_pool2d", "relax.nn.adaptive_avg_pool2d")
REDUCTIONS = ("relax.mean", "relax.sum", "relax.max", "relax.min", "relax.variance")


@tvm.transform.module_pass(opt_level=0, name="ConvertToChannelsLast")
class ConvertToChannelsLast:
    """Give every value on a path through convolutions the NHWC layout."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``."""
        return relax.transform.DeadCodeElimination()(rewrite_main(mod, _Converter().convert))


class _Converter:
    """Converts one value after the other; ``twins`` maps an NCHW value to the same in NHWC."""

    def __init__(self) -> None:
        self.twins: dict[relax.Var, relax.Var] = {}

    def convert(self, bb: relax.BlockBuilder, value: relax.Expr) -> relax.Expr:
        if not isinstance(value, relax.Call):
            return value
        name = getattr(value.op, "name", "")
        if name == "relax.nn.conv2d" and value.attrs.data_layout == "NCHW":
            return self.both(bb, self.convolution(bb, value))
        if not any(self.has_twin(a) for a in value.args):
            return value
        last: relax.Expr | None = None
        if name in ELEMENTWISE:
            last = self.elementwise(bb, value)
        elif name == "pock.dropout" and not len(value.attrs["shared"]):
            last = relax.Call(value.op, [self.twins[value.args[0]], *value.args[1:]], value.attrs)
        elif name in POOLS:
            last = _with_layout(value, self.twins[value.args[0]])
        elif name == "relax.nn.pad":
            last = _pad(value, self.twins[value.args[0]])
        elif name in REDUCTIONS:
            return self.reduction(bb, value)
        elif name == "relax.reshape" and _flattens_channels(value):
            return reshape(self.twins[value.args[0]], value.args[1])
        return value if last is None else self.both(bb, last)

    def has_twin(self, x: relax.Expr) -> bool:
        return isinstance(x, relax.Var) and x in self.twins

    def both(self, bb: relax.BlockBuilder, last: relax.Expr) -> relax.Var:
        """Emit an NHWC value, and the NCHW view of it for readers that know no other."""
        twin = bb.emit(last)
        first = bb.emit(permute_dims(twin, TO_FIRST))
        self.twins[first] = twin
        return first

    def last(self, bb: relax.BlockBuilder, x: relax.Expr) -> relax.Expr:
        return self.twins[x] if self.has_twin(x) else bb.emit(permute_dims(x, TO_LAST))

    def convolution(self, bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        attrs = call.attrs
        return relax.op.nn.conv2d(
            self.last(bb, call.args[0]),
            bb.emit(permute_dims(call.args[1], OIHW_TO_HWIO)),
            strides=attrs.strides,
            padding=attrs.padding,
            dilation=attrs.dilation,
            groups=attrs.groups,
            data_layout="NHWC",
            kernel_layout="HWIO",
        )

    def elementwise(self, bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr | None:
        operands = [self.operand(bb, a, call) for a in call.args]
        if any(a is None for a in operands):
            return None
        return relax.Call(call.op, operands, call.attrs, call.ty_args)

    def operand(self, bb: relax.BlockBuilder, x: relax.Expr, call: relax.Call) -> relax.Expr | None:
        """Return an operand as it broadcasts in NHWC, or None where it cannot."""
        if self.has_twin(x):
            return self.twins[x]
        if not isinstance(getattr(x, "ty", None), relax.TensorType) or x.ty.ndim == 0:
            return x
        shape = static_shape(x)
        if shape == static_shape(call):
            return self.last(bb, x)
        padded = (1,) * (4 - len(shape)) + shape
        if padded[0] == padded[2] == padded[3] == 1:
            return bb.emit(reshape(x, (padded[1],)))
        return None

    def reduction(self, bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        if call.attrs.axis is None:
            return relax.Call(call.op, [self.twins[call.args[0]]], call.attrs)
        axes = [int(a) % 4 for a in call.attrs.axis]
        kept = [a for a in range(4) if a not in axes]
        keepdims = bool(call.attrs.keepdims)
        in_order = [_AXIS_IN_LAST[a] for a in kept] == sorted(_AXIS_IN_LAST[a] for a in kept)
        if not keepdims and not in_order:
            return call
        reduce: Callable[..., relax.Expr] = getattr(relax.op, call.op.name.removeprefix("relax."))
        last = reduce(
            self.twins[call.args[0]], sorted(_AXIS_IN_LAST[a] for a in axes), keepdims=keepdims
        )
        return self.both(bb, last) if keepdims else last


def _with_layout(call: relax.Call, x: relax.Var) -> relax.Expr:
    """Return the pooling ``call`` applied to NHWC ``x``."""
    attrs = call.attrs
    if is_call_to(call, "relax.nn.adaptive_avg_pool2d"):
        return relax.op.nn.adaptive_avg_pool2d(x, attrs.output_size, layout="NHWC")
    pool = getattr(relax.op.nn, call.op.name.removeprefix("relax.nn."))
    return pool(
        x,
        pool_size=attrs.pool_size,
        strides=attrs.strides,
        padding=attrs.padding,
        dilation=attrs.dilation,
        ceil_mode=attrs.ceil_mode,
        count_include_pad=attrs.count_include_pad,
        layout="NHWC",
    )


def _pad(call: relax.Call, x: relax.Var) -> relax.Expr:
    widths = [int(v) for v in call.attrs.pad_width]
    pairs = [widths[2 * axis : 2 * axis + 2] for axis in TO_LAST]
    return relax.op.nn.pad(
        x,
        [v for pair in pairs for v in pair],
        pad_mode=call.attrs.pad_mode,
        pad_value=call.attrs.pad_value,
    )


def _flattens_channels(call: relax.Call) -> bool:
    """Tell whether a reshape reads pictures of one pixel, whose memory is the same either way."""
    return static_shape(call.args[0])[2:] == (1, 1)
