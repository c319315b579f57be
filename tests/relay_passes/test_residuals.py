"""What the forward pass keeps for the backward pass of each operator, and nothing else.

The operator stands between a bias that learns and a frozen layer: what is kept is kept for it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tvm
from pass_checks import main_of
from tvm import relax
from tvm.relax import op

from pock_tvm.relay_passes.derive_backward import DeriveBackward
from pock_tvm.relay_passes.keep_pool_taps import KeepPoolTaps
from pock_tvm.relay_passes.operators.attention import attention
from pock_tvm.relay_passes.operators.bits import words_shape
from pock_tvm.relay_passes.operators.cross_entropy import cross_entropy
from pock_tvm.relay_passes.operators.dropout import dropout
from pock_tvm.relay_passes.pack_masks import PackMasks
from pock_tvm.relay_passes.recompute_elementwise import RecomputeElementwise
from pock_tvm.relay_passes.rewrite import bindings_of, is_call_to, returned_fields, static_shape

SHAPE = (2, 8, 8, 4)
WORDS = (("uint32", words_shape(SHAPE)),)
WHOLE = (("float32", SHAPE),)


def const(value: Any) -> relax.Expr:
    return relax.const(value, "float32")


def hard_swish(x: relax.Expr) -> relax.Expr:
    return x * op.clip(x + const(3), 0, 6) / const(6)


def normalized(norm: Any, count: int) -> Callable[[relax.Expr], relax.Expr]:
    scales = [const(np.linspace(1, 2, SHAPE[-1])) for _ in range(count)]
    return lambda x: norm(x, *scales, axes=[-1])


def entropy(x: relax.Expr) -> relax.Expr:
    labels = relax.const(np.arange(128) % 4, "int64")
    return cross_entropy(op.reshape(x, (128, 4)), labels)


def attended(x: relax.Expr) -> relax.Expr:
    """Attend to constant keys and values: what is left to keep is queries or nothing."""
    keys, values = const(np.ones((2, 8, 4, 6))), const(np.ones((2, 8, 6, 3)))
    return attention(x, keys, values, [], 0.5)


KEYS = relax.const(np.array([[1, 2], [3, 4]]), "int64")


@dataclass(frozen=True)
class Kept:
    name: str
    op: Callable[[relax.Expr], relax.Expr]
    tensors: tuple[tuple[str, tuple[int, ...]], ...]
    inputs: bool = False
    """Whether they include the operator's input."""


TABLE = [
    # Nothing: linear, or made again from a counter.
    Kept("scale", lambda x: x * const(3), ()),
    Kept("mean", lambda x: op.mean(x, axis=[1, 2], keepdims=True), ()),
    Kept("avg_pool2d", lambda x: op.nn.avg_pool2d(x, (2, 2), (2, 2), layout="NHWC"), ()),
    Kept("matmul", lambda x: op.matmul(x, const(np.eye(4))), ()),
    Kept("dropout", lambda x: dropout(x, KEYS, p=0.3, stream=1), ()),
    # One bit per element.
    Kept("relu", op.nn.relu, WORDS),
    Kept("relu6", lambda x: op.clip(x, 0, 6), WORDS),
    Kept("leaky_relu", lambda x: op.nn.leakyrelu(x, 0.1), WORDS),
    # A byte per window.
    Kept(
        "max_pool2d",
        lambda x: op.nn.max_pool2d(x, (2, 2), (2, 2), layout="NHWC"),
        (("uint8", (2, 4, 4, 4)),),
    ),
    # The output instead of the input.
    Kept("sigmoid", op.sigmoid, WHOLE),
    Kept("tanh", op.tanh, WHOLE),
    Kept("exp", op.exp, WHOLE),
    Kept("sqrt", op.sqrt, WHOLE),
    Kept("softmax", op.nn.softmax, WHOLE),
    # The input, and no statistics, regions or one-hot beside it.
    Kept("hard_swish", hard_swish, WHOLE, inputs=True),
    Kept("gelu", op.nn.gelu, WHOLE, inputs=True),
    Kept("silu", op.nn.silu, WHOLE, inputs=True),
    Kept("layer_norm", normalized(op.nn.layer_norm, 2), WHOLE, inputs=True),
    Kept("rms_norm", normalized(op.nn.rms_norm, 1), WHOLE, inputs=True),
    Kept("cross_entropy", entropy, WHOLE, inputs=True),
    Kept("attention", attended, WHOLE, inputs=True),
]


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_what_is_kept(case):
    def build(bb, x, b):
        y = bb.emit(case.op(bb.emit(x + b, name_hint="before")))
        return y if not y.ty.shape else bb.emit(op.sum(bb.emit(y * const(2))))

    steps = [
        DeriveBackward(["b"]),
        relax.transform.EliminateCommonSubexpr(),
        RecomputeElementwise(),
        KeepPoolTaps(),
        PackMasks(),
    ]
    mod = main_of(build, {"x": SHAPE, "b": SHAPE[-1:]}, "float32")
    kept = _kept(tvm.ir.transform.Sequential(steps)(mod)["main"])
    assert tuple((str(v.ty.dtype), static_shape(v)) for v in kept) == case.tensors
    assert any("before" in v.name for v in kept) == case.inputs


def _kept(main: relax.Function) -> list[relax.Var]:
    """Return the values of the forward pass, views aside, that are read after the loss."""
    bindings = list(bindings_of(main))
    loss = returned_fields(main)[0]
    end = next(i for i, b in enumerate(bindings) if b.var.same_as(loss)) + 1
    whole = {b.var: b.var for b in bindings}
    for binding in bindings:
        if is_call_to(binding.value, "relax.reshape"):
            whole[binding.var] = whole.get(binding.value.args[0], binding.value.args[0])
    made = {b.var for b in bindings[:end]} - {loss}
    kept: dict[relax.Var, None] = {}

    def look(expr: relax.Expr) -> None:
        if isinstance(expr, relax.Var) and whole.get(expr) in made:
            kept[whole[expr]] = None

    for binding in bindings[end:]:
        if not is_call_to(binding.value, "relax.reshape"):
            relax.analysis.post_order_visit(binding.value, look)
    return list(kept)
