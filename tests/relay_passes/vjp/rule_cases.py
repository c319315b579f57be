"""The cases of test_rules.py: operators, shapes, ranges, and PyTorch's name for the same thing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tvm import relax
from tvm.relax import op

from pock_tvm.relay_passes.operators.cross_entropy import cross_entropy
from pock_tvm.relay_passes.operators.dropout import dropout
from pock_tvm.relay_passes.operators.pointwise_loss import POINTWISE, pointwise_loss

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """One operator at one set of operand shapes; integer operands are constants inside ``op``."""

    name: str
    op: Callable[..., relax.Expr]
    shapes: tuple[Shape, ...]
    low: float = -2.0
    high: float = 2.0
    torch: Callable[..., Any] | None = None

    def operands(self, rng: np.random.Generator) -> list[np.ndarray]:
        return [rng.uniform(self.low, self.high, shape) for shape in self.shapes]


def ints(values: Any) -> relax.Expr:
    return relax.const(np.asarray(values, "int64"))


KEYS = ints([[1, 2], [3, 4]])


def mask(values: Any) -> relax.Expr:
    return relax.const(np.asarray(values, "bool"))


def number(value: float) -> relax.Expr:
    return relax.const(value, "float64")


def conv2d(**window: Any) -> Callable[..., relax.Expr]:
    return lambda x, w: op.nn.conv2d(
        x, w, data_layout="NHWC", kernel_layout="HWIO", out_dtype="float64", **window
    )


def torch_conv2d(strides=1, padding=0, dilation=1, groups=1) -> Callable[..., Any]:
    def run(x, w):
        top, left, bottom, right = [padding] * 4 if isinstance(padding, int) else padding
        x = F.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom))
        y = F.conv2d(x, w.permute(3, 2, 0, 1), None, strides, 0, dilation, groups)
        return y.permute(0, 2, 3, 1)

    return run


def conv_case(name: str, x: Shape, w: Shape, **window: Any) -> Case:
    return Case(f"conv2d-{name}", conv2d(**window), (x, w), torch=torch_conv2d(**window))


def channels_first(x):
    return x.permute(0, 3, 1, 2)


def channels_last(x):
    return x.permute(0, 2, 3, 1)


def pool_case(kind: str, x: Shape, window: int, **options: Any) -> Case:
    ours, theirs = (
        (op.nn.max_pool2d, F.max_pool2d)
        if kind == "max"
        else (
            op.nn.avg_pool2d,
            F.avg_pool2d,
        )
    )
    torch_options = {k.replace("strides", "stride"): v for k, v in options.items()}
    if kind == "avg":
        torch_options.setdefault("count_include_pad", False)
    return Case(
        f"{kind}_pool2d-{window}-{'-'.join(f'{k}={v}' for k, v in options.items())}",
        lambda x: ours(x, (window, window), layout="NHWC", **options),
        (x,),
        torch=lambda x: channels_last(theirs(channels_first(x), window, **torch_options)),
    )


def entropy(labels: Any, **options: Any) -> dict[str, Any]:
    return {
        "op": lambda x: cross_entropy(x, ints(labels), **options),
        "torch": lambda x: F.cross_entropy(x, torch.tensor(labels), **options),
    }


def pointwise(kind: str, option: float = 1.0) -> Callable[..., relax.Expr]:
    return lambda x: pointwise_loss(x, number([0.3, -1.2, 0.9, 1.7]), kind, option)


def cat(*xs):
    return torch.cat(xs, -1)


def slice_case(name: str, at: tuple[slice, ...]) -> Case:
    """x[at] of a 5 x 8 tensor."""
    far = [(0, 100) if (s.step or 1) > 0 else (100, -100) for s in at]
    begin = [lo if s.start is None else s.start for s, (lo, _) in zip(at, far, strict=True)]
    end = [hi if s.stop is None else s.stop for s, (_, hi) in zip(at, far, strict=True)]
    strides = [s.step or 1 for s in at]
    places = torch.arange(40).reshape(5, 8).numpy()[at].copy()
    return Case(
        f"strided_slice-{name}",
        lambda x: op.strided_slice(x, list(range(len(at))), begin, end, strides),
        ((5, 8),),
        torch=lambda x: x.flatten()[torch.tensor(places)],  # PyTorch has no negative strides
    )


def padded(mode: str) -> Callable[..., relax.Expr]:
    return lambda x: op.nn.pad(x, [0, 0, 1, 2, 0, 2], mode, 0.5)


def torch_padded(mode: str) -> Callable[..., Any]:
    value = {"value": 0.5} if mode == "constant" else {}
    return lambda x: F.pad(x[None], (0, 2, 1, 2), mode, **value)[0]


M = ((3, 4),)

UNARY = [
    Case("exp", op.exp, M, torch=torch.exp),
    Case("log", op.log, M, low=0.5, torch=torch.log),
    Case("sqrt", op.sqrt, M, low=0.5, torch=torch.sqrt),
    Case("rsqrt", op.rsqrt, M, low=0.5, torch=torch.rsqrt),
    Case("negative", op.negative, M, torch=torch.neg),
    Case("abs", op.abs, M, torch=torch.abs),
    Case("square", op.square, M, torch=torch.square),
    Case("sin", op.sin, M, torch=torch.sin),
    Case("cos", op.cos, M, torch=torch.cos),
    Case("tan", op.tan, M, low=-1, high=1, torch=torch.tan),
    Case("sinh", op.sinh, M, torch=torch.sinh),
    Case("cosh", op.cosh, M, torch=torch.cosh),
    Case("atan", op.atan, M, torch=torch.atan),
    Case("tanh", op.tanh, M, torch=torch.tanh),
    Case("sigmoid", op.sigmoid, M, torch=torch.sigmoid),
    Case("erf", op.erf, M, torch=torch.erf),
    Case("astype", lambda x: op.astype(x, "float64"), M),
    Case("clip", lambda x: op.clip(x, -0.5, 1), M, torch=lambda x: F.hardtanh(x, -0.5, 1)),
    Case("relu", op.nn.relu, M, torch=F.relu),
    Case("leakyrelu", lambda x: op.nn.leakyrelu(x, 0.1), M, torch=lambda x: F.leaky_relu(x, 0.1)),
    Case("silu", op.nn.silu, M, torch=F.silu),
    Case("gelu", op.nn.gelu, M, torch=F.gelu),
    Case("gelu_tanh", op.nn.gelu_tanh, M, torch=lambda x: F.gelu(x, approximate="tanh")),
]

BINARY = [
    Case("add", op.add, ((2, 3, 4), (3, 1)), torch=torch.add),
    Case("add-scalar", op.add, ((), (3, 4)), torch=torch.add),
    Case("subtract", op.subtract, ((3, 4), (2, 1, 4)), torch=torch.sub),
    Case("multiply", op.multiply, ((1, 4), (3, 1)), torch=torch.mul),
    Case("divide", op.divide, ((3, 4), (4,)), low=0.5, torch=torch.div),
    Case("power", op.power, ((3, 4), (4,)), low=0.5, torch=torch.pow),
    Case("power-square", lambda x: op.power(x, number(2)), M, torch=torch.square),
    Case("power-cube", lambda x: op.power(x, number(3)), M, torch=lambda x: x**3),
    Case("maximum", op.maximum, ((3, 4), (4,)), torch=torch.maximum),
    Case("minimum", op.minimum, ((3, 4), (3, 1)), torch=torch.minimum),
    Case(
        "where",
        lambda x, y: op.where(mask([[1], [0], [1]]), x, y),
        ((3, 4), (1, 4)),
        torch=lambda x, y: torch.where(torch.tensor([[True], [False], [True]]), x, y),
    ),
]

REDUCE = [
    Case("sum", op.sum, M, torch=torch.sum),
    Case("sum-axis", lambda x: op.sum(x, [-2]), ((2, 3, 4),), torch=lambda x: x.sum(-2)),
    Case("mean", op.mean, M, torch=torch.mean),
    Case(
        "mean-axes",
        lambda x: op.mean(x, [-1, 1], keepdims=True),
        ((2, 3, 4),),
        torch=lambda x: x.mean((1, 2), keepdim=True),
    ),
    Case("max", lambda x: op.max(x, [0]), M, torch=lambda x: x.amax(0)),
    Case("min", lambda x: op.min(x, [1], keepdims=True), M, torch=lambda x: x.amin(1, True)),
    Case(
        "variance",
        lambda x: op.variance(x, [1]),
        ((2, 5, 3),),
        torch=lambda x: x.var(1, correction=0),
    ),
]

REDUCE += [
    Case("std", lambda x: op.std(x, [0]), M, torch=lambda x: x.std(0, correction=0)),
    Case("cumsum", lambda x: op.cumsum(x, -2), M, torch=lambda x: x.cumsum(-2)),
    Case("cumsum-exclusive", lambda x: op.cumsum(x, 1, exclusive=True), M),
    Case("cumsum-flat", op.cumsum, M, torch=lambda x: x.flatten().cumsum(0)),
]

LINEAR_ALGEBRA = [
    Case(f"matmul-{len(x)}d-{len(y)}d", op.matmul, (x, y), torch=torch.matmul)
    for x, y in [
        ((3, 4), (4, 5)),
        ((4,), (4,)),
        ((4,), (4, 5)),
        ((3, 4), (4,)),
        ((2, 3, 4), (4, 5)),
        ((2, 3, 4), (4,)),
        ((3, 4), (2, 4, 5)),
        ((4,), (2, 4, 5)),
        ((2, 3, 4), (2, 4, 5)),
        ((2, 1, 3, 4), (3, 4, 5)),
    ]
] + [
    conv_case("plain", (2, 5, 6, 3), (3, 3, 3, 4)),
    conv_case("stride", (1, 7, 6, 2), (3, 3, 2, 3), strides=(2, 3), padding=(1, 1, 1, 1)),
    conv_case("uneven-pad", (1, 5, 5, 2), (2, 3, 2, 3), strides=(2, 2), padding=(0, 1, 1, 2)),
    conv_case("dilation", (1, 8, 7, 2), (3, 2, 2, 3), dilation=(2, 3), padding=(2, 1, 2, 1)),
    conv_case("groups", (1, 4, 4, 4), (3, 3, 2, 6), groups=2, padding=(1, 1, 1, 1)),
    conv_case("depthwise", (2, 5, 5, 3), (3, 3, 1, 3), groups=3, strides=(2, 2)),
    conv_case("pointwise", (2, 3, 3, 4), (1, 1, 4, 5)),
]

NN = [
    Case("softmax", op.nn.softmax, M, torch=lambda x: F.softmax(x, -1)),
    Case("softmax-axis", lambda x: op.nn.softmax(x, 1), ((2, 3, 4),), torch=lambda x: x.softmax(1)),
    Case("log_softmax", op.nn.log_softmax, M, torch=lambda x: F.log_softmax(x, -1)),
    Case(
        "layer_norm",
        lambda x, g, b: op.nn.layer_norm(x, g, b, axes=[-1], epsilon=1e-5),
        ((2, 3, 6), (6,), (6,)),
        torch=lambda x, g, b: F.layer_norm(x, (6,), g, b, 1e-5),
    ),
    Case(
        "layer_norm-two-axes",
        lambda x, g, b: op.nn.layer_norm(x, g, b, axes=[-2, -1], epsilon=1e-3),
        ((2, 3, 4), (3, 4), (3, 4)),
        torch=lambda x, g, b: F.layer_norm(x, (3, 4), g, b, 1e-3),
    ),
    *(Case(f"pointwise_loss-{kind}", pointwise(kind, 0.5), ((4,),)) for kind in POINTWISE),
    Case("cross_entropy", shapes=((3, 4),), **entropy([1, 0, 3])),
    Case(
        "cross_entropy-smooth",
        shapes=((4, 3),),
        **entropy([1, -100, 2, 0], label_smoothing=0.1),
    ),
    Case(
        "cross_entropy-ignore",
        shapes=((4, 3),),
        **entropy([1, 0, 2, 0], ignore_index=0),
    ),
]

NN += [
    Case(
        "group_norm",
        lambda x, g, b: op.nn.group_norm(x, g, b, 2, 1, [2, 3], 1e-4),
        ((2, 6, 3, 2), (6,), (6,)),
        torch=lambda x, g, b: F.group_norm(x, 2, g, b, 1e-4),
    ),
    Case(
        "group_norm-channels-last",
        lambda x, g, b: op.nn.group_norm(x, g, b, 3, -1, [1, 2], 1e-4),
        ((2, 3, 2, 6), (6,), (6,)),
        torch=lambda x, g, b: channels_last(F.group_norm(channels_first(x), 3, g, b, 1e-4)),
    ),
    Case("softplus", lambda x: op.nn.softplus(x, 2.0, 3.0), M, torch=lambda x: F.softplus(x, 2, 3)),
    Case(
        "rms_norm",
        lambda x, g: op.nn.rms_norm(x, g, axes=[-1], epsilon=1e-5),
        ((2, 3, 6), (6,)),
        torch=lambda x, g: F.rms_norm(x, (6,), g, 1e-5),
    ),
    pool_case("max", (1, 4, 6, 2), 2, strides=2),
    pool_case("max", (2, 7, 6, 2), 3, strides=2, padding=1),
    pool_case("max", (1, 9, 8, 2), 3, strides=2, padding=1, dilation=2),
    pool_case("max", (1, 6, 6, 2), 3, strides=2, padding=1, ceil_mode=True),
    pool_case("avg", (1, 4, 6, 2), 2, strides=2),
    pool_case("avg", (2, 7, 6, 2), 3, strides=2, padding=1),
    pool_case("avg", (1, 6, 6, 2), 3, strides=2, padding=1, count_include_pad=True),
    pool_case("avg", (1, 6, 7, 2), 3, strides=2, padding=1, ceil_mode=True),
    pool_case("avg", (1, 6, 7, 2), 3, strides=2, ceil_mode=True, count_include_pad=True),
    *(
        Case(
            f"adaptive_avg_pool2d-{height}x{width}",
            lambda x, size=(height, width): op.nn.adaptive_avg_pool2d(x, size, "NHWC"),
            ((2, 6, 7, 2),),
            torch=lambda x, size=(height, width): channels_last(
                F.adaptive_avg_pool2d(channels_first(x), size)
            ),
        )
        for height, width in [(1, 1), (3, 7), (4, 3), (8, 2)]
    ),
]

INDEX = [
    Case(
        "take-wrap",
        lambda x: op.take(x, ints([-1, 4, 1]), axis=0, mode="wrap"),
        M,
        torch=lambda x: x[torch.tensor([2, 1, 1])],
    ),
    Case(
        "take-clip",
        lambda x: op.take(x, ints([-1, 9, 1]), axis=1, mode="clip"),
        M,
        torch=lambda x: x[:, torch.tensor([0, 3, 1])],
    ),
    Case(
        "take",
        lambda x: op.take(x, ints([2, 0, 2]), axis=0),
        M,
        torch=lambda x: x[torch.tensor([2, 0, 2])],
    ),
    Case(
        "take-2d",
        lambda x: op.take(x, ints([[2, 0], [2, 2]]), axis=-2),
        ((2, 3, 4),),
        torch=lambda x: x[:, torch.tensor([[2, 0], [2, 2]])],
    ),
    Case(
        "take-scalar", lambda x: op.take(x, ints(1), axis=1), ((2, 3, 4),), torch=lambda x: x[:, 1]
    ),
]

SHAPE = [
    Case("reshape", lambda x: op.reshape(x, (2, 6)), M, torch=lambda x: x.reshape(2, 6)),
    Case("flatten", op.flatten, M, torch=torch.flatten),
    Case(
        "expand_dims", lambda x: op.expand_dims(x, [0, -1]), M, torch=lambda x: x[None, ..., None]
    ),
    Case("squeeze", lambda x: op.squeeze(x, [1]), ((3, 1, 4),), torch=lambda x: x.squeeze(1)),
    Case("permute_dims", op.permute_dims, ((2, 3, 4),), torch=lambda x: x.permute(2, 1, 0)),
    Case(
        "permute_dims-axes",
        lambda x: op.permute_dims(x, [1, -1, 0]),
        ((2, 3, 4),),
        torch=lambda x: x.permute(1, 2, 0),
    ),
    Case(
        "broadcast_to",
        lambda x: op.broadcast_to(x, (2, 3, 4)),
        ((3, 1),),
        torch=lambda x: x.expand(2, 3, 4),
    ),
    Case("full", lambda v: op.full((2, 3), v), ((),), torch=lambda v: v.expand(2, 3)),
    Case("full_like", lambda v: op.full_like(relax.const(np.ones((2, 3)), "float64"), v), ((),)),
    Case("concat", lambda x, y, z: op.concat([x, y, z], -1), ((2, 3), (2, 1), (2, 2)), torch=cat),
    Case(
        "stack", lambda x, y: op.stack([x, y], -2), (*M, *M), torch=lambda *xs: torch.stack(xs, -2)
    ),
    Case("split", lambda x: op.split(x, 2, -1), M, torch=lambda x: x.split(2, -1)),
    Case("split-at", lambda x: op.split(x, [1, 3], 1), M, torch=lambda x: x.split([1, 2, 1], 1)),
    Case("flip", lambda x: op.flip(x, -1), M, torch=lambda x: x.flip(-1)),
    slice_case("plain", np.s_[:, 1:3]),
    slice_case("strided", np.s_[::2, 1:7:3]),
    slice_case("sticks-out", np.s_[1::3, ::4]),
    slice_case("backwards", np.s_[::-1, 6:0:-2]),
    slice_case("negative-bounds", np.s_[-3:-1, -100:100]),
    *(
        Case(f"pad-{mode}", padded(mode), ((1, 4, 3),), torch=torch_padded(mode))
        for mode in ("constant", "reflect", "replicate", "circular")
    ),
    Case("repeat", lambda x: op.repeat(x, 3, -2), M, torch=lambda x: x.repeat_interleave(3, -2)),
    Case("repeat-flat", lambda x: op.repeat(x, 2), ((4,),), torch=lambda x: x.repeat_interleave(2)),
    Case("tile", lambda x: op.tile(x, (2, 1, 3)), M, torch=lambda x: x.tile(2, 1, 3)),
    Case("tile-short", lambda x: op.tile(x, (2,)), M, torch=lambda x: x.tile(2)),
]

DROPOUT = [
    Case("dropout", lambda x: dropout(x, KEYS, p=0.3, stream=1), ((3, 7),)),
    Case("dropout-rows", lambda x: dropout(x, KEYS, p=0.6, stream=0, shared=[1]), ((9, 2),)),
]

CASES = DROPOUT + UNARY + BINARY + REDUCE + LINEAR_ALGEBRA + NN + INDEX + SHAPE
