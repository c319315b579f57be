"""A gradient and the optimizer's step in one kernel, which writes over the weight and its slots."""

import numpy as np
import pytest
import tvm
from kernel_cases import compile_kernel, fuse_kernel, run_kernel
from test_reduction import rule_of
from tvm import relax

from pock_tvm.optimizers import SGD, AdamW
from pock_tvm.relay_passes.operators.conv2d import Window, weight_grad
from pock_tvm.relay_passes.operators.optimizer_steps.adam import adamw_step
from pock_tvm.relay_passes.operators.optimizer_steps.sgd import sgd_step

RATE, C1, C2 = (np.array(x, "float32") for x in (1e-2, 0.2, 0.003))
ADAMW = AdamW(weight_decay=0.1)
SGD_MOMENTUM = SGD(momentum=0.9, weight_decay=0.1, nesterov=True)


def _conv(weight, groups=1, stride=1):
    window = Window((stride, stride), (weight[0] // 2,) * 4, (1, 1), groups)
    return lambda x, ct: weight_grad(x, ct, weight, window)


CASES = {
    # rule, shapes of the operands of the gradient, the gradient
    "matrix": ("gemm", ((70, 45), (45, 33)), relax.op.matmul),
    "few rows": ("gemm", ((2, 45), (45, 90)), relax.op.matmul),
    "deep sum": ("gemm", ((20, 9000), (9000, 9)), relax.op.matmul),
    "conv 1x1": ("gemm", ((2, 6, 5, 20), (2, 6, 5, 35)), _conv((1, 1, 20, 35))),
    "conv 3x3": ("gemm", ((2, 9, 8, 5), (2, 5, 4, 19)), _conv((3, 3, 5, 19), stride=2)),
    "grouped": ("gemm", ((2, 6, 5, 8), (2, 6, 5, 12)), _conv((3, 3, 2, 12), groups=4)),
    "depthwise": (
        "depthwise_weight_grad",
        ((2, 9, 8, 36), (2, 9, 8, 36)),
        _conv((3, 3, 1, 36), groups=36),
    ),
}


def _adamw(w, m, v, g):
    m1, v1 = ADAMW.beta1 * m + (1 - ADAMW.beta1) * g, ADAMW.beta2 * v + (1 - ADAMW.beta2) * g * g
    scaled = RATE / C1 * m1 / (np.sqrt(v1 / C2) + ADAMW.eps)
    return w * (1 - RATE * ADAMW.weight_decay) - scaled, m1, v1


def _sgd(w, m, g):
    g = g + SGD_MOMENTUM.weight_decay * w
    m1 = SGD_MOMENTUM.momentum * m + g
    return w - RATE * (g + SGD_MOMENTUM.momentum * m1), m1


def _adamw_kernel(gradient):
    def build(x, ct, w, m, v, rate, c1, c2):
        slots = {"moment1": m, "moment2": v}
        shared = {"correction1": c1, "correction2": c2}
        return adamw_step(ADAMW, w, gradient(x, ct), rate, slots, shared)

    return build


def _sgd_kernel(gradient):
    def build(x, ct, w, m, rate):
        return sgd_step(SGD_MOMENTUM, w, gradient(x, ct), rate, {"momentum": m}, {})

    return build


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_step_in_place(name, optimizer):
    rule, shapes, gradient = CASES[name]
    rng = np.random.default_rng(4)
    x, ct = (rng.standard_normal(s).astype("float32") for s in shapes)
    (g,) = run_kernel(fuse_kernel(gradient, x, ct), [x, ct])
    state = [rng.random(g.shape).astype("float32") for _ in range(3)]
    if optimizer == "adamw":
        numbers, make, reference = [RATE, C1, C2], _adamw_kernel, _adamw
    else:
        numbers, make, reference = [RATE], _sgd_kernel, _sgd
        del state[2]
    func = fuse_kernel(make(gradient), x, ct, *state, *numbers)
    assert rule_of(func) == rule
    changed = [tvm.runtime.tensor(s) for s in state]
    order = {str(p.name): p for p in func.params}
    arguments = {
        **{f"p{k}": tvm.runtime.tensor(a) for k, a in enumerate([x, ct])},
        **{f"p{k + 2}": a for k, a in enumerate(changed)},
        **{f"p{k + 2 + len(state)}": tvm.runtime.tensor(a) for k, a in enumerate(numbers)},
    }
    lib = compile_kernel(func.with_attr("tirx.noalias", False))
    inputs = [arguments[n] for n in order if n in arguments]
    lib["main"](*inputs, *changed)
    wanted = reference(*(s.astype("float64") for s in state), g.astype("float64"))
    for got, expected in zip(changed, wanted, strict=True):
        # A handful of float32 roundings of values near one.
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-5, atol=1e-5)
