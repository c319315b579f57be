"""The gradient of a scale, summed over the tiles of a weight gradient while they are stored."""

import numpy as np
import pytest
import tvm
from kernel_cases import (
    compile_kernel,
    fuse_kernel,
    fuse_kernels,
    run_kernel,
    run_on_one_and_two_threads,
)
from test_reduction import rule_of
from tvm import relax

from pock_tvm.optimizers import SGD
from pock_tvm.relay_passes.operators.conv2d import Window, weight_grad
from pock_tvm.relay_passes.operators.optimizer_steps.sgd import sgd_step
from pock_tvm.targets import get_target

RATE = np.array(1e-2, "float32")
MOMENTUM = SGD(momentum=0.9)
F32 = 2.0**-24

CASES = {
    # shapes of the operands, of the weight, stride
    "1x1": ((2, 6, 5, 20), (2, 6, 5, 35), (1, 1, 20, 35), 1),
    "one row": ((2, 6, 5, 1), (2, 6, 5, 35), (1, 1, 1, 35), 1),
    "many chunks": ((1, 5, 5, 300), (1, 5, 5, 70), (1, 1, 300, 70), 1),
    "a sum in parts": ((2, 64, 64, 16), (2, 64, 64, 24), (1, 1, 16, 24), 1),
    "a sum in blocks": ((8, 20, 20, 40), (8, 20, 20, 90), (1, 1, 40, 90), 1),
    "3x3": ((2, 9, 8, 5), (2, 9, 8, 19), (3, 3, 5, 19), 1),
    "3x3, stride 2": ((2, 9, 8, 5), (2, 5, 4, 19), (3, 3, 5, 19), 2),
    "depthwise": ((2, 9, 8, 37), (2, 9, 8, 37), (3, 3, 1, 37), 1),
    "depthwise, one picture": ((1, 9, 8, 150), (1, 5, 4, 150), (3, 3, 1, 150), 2),
}


def _gradient(name):
    x, _, weight, stride = CASES[name]
    groups = x[-1] // weight[2]
    window = Window((stride, stride), (weight[0] // 2,) * 4, (1, 1), groups)
    return lambda x, ct: weight_grad(x, ct, weight, window)


def _kernel(name, step):
    """Return the kernel of s̄ and of the step of a weight that is scaled by s."""
    x, ct, weight, _ = CASES[name]
    slots = [weight] if step == "momentum" else []

    def build(x, ct, w, *rest):
        *state, s, rate = rest
        bb = relax.BlockBuilder.current()
        g = bb.emit(_gradient(name)(x, ct))
        sums = bb.emit(relax.op.sum(bb.emit(relax.op.multiply(g, w)), axis=[0, 1, 2]))
        scaled = bb.emit(relax.op.multiply(g, s))
        if not state:
            new = bb.emit(relax.op.subtract(w, bb.emit(relax.op.multiply(rate, scaled))))
            return relax.Tuple([sums, new])
        both = bb.emit(sgd_step(MOMENTUM, w, scaled, rate, {"momentum": state[0]}, {}))
        return relax.Tuple([sums, *(bb.emit(relax.TupleGetItem(both, k)) for k in range(2))])

    shapes = [x, ct, weight, *slots, weight[-1:], ()]
    return fuse_kernel(build, *((s, "float32") for s in shapes), with_readers=True)


def _values(name, step, seed=0):
    rng = np.random.default_rng(seed)
    x, ct, weight, _ = CASES[name]
    shapes = [x, ct, weight, *([weight] if step == "momentum" else []), weight[-1:]]
    return [rng.standard_normal(s).astype("float32") for s in shapes]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("step", ["plain", "momentum"])
@pytest.mark.parametrize("target", ["host", "x86-64-v3"])
def test_a_scale_and_a_step_in_place(name, step, target):
    func = _kernel(name, step)
    assert rule_of(func) == ("depthwise_weight_grad" if "depthwise" in name else "gemm")
    x, ct, w, *slots, s = _values(name, step)
    (g,) = run_kernel(fuse_kernel(_gradient(name), x, ct), [x, ct])
    terms = g.astype("float64") * w
    changed = [tvm.runtime.tensor(a) for a in (w, *slots)]
    lib = compile_kernel(func.with_attr("tirx.noalias", False), get_target(target))
    sums = tvm.runtime.tensor(np.full(s.shape, np.nan, "float32"))
    inputs = {f"p{k}": tvm.runtime.tensor(a) for k, a in enumerate([x, ct])}
    inputs |= {f"p{k + 2}": a for k, a in enumerate(changed)}
    inputs |= {f"p{k + 2 + len(changed)}": tvm.runtime.tensor(a) for k, a in enumerate([s, RATE])}
    lib["main"](
        *(inputs[str(p.name)] for p in func.params if str(p.name) in inputs), sums, *changed
    )
    # Each product and each addition rounds once; g differs by the order of its own sum.
    products, rows = ct.size / ct.shape[-1], terms[..., 0].size
    bound = np.abs(ct).max() * np.abs(x).max() * products * F32
    most = (rows + 2) * F32 * np.abs(terms).sum((0, 1, 2)) + bound * np.abs(w).sum((0, 1, 2))
    assert (np.abs(sums.numpy() - terms.sum((0, 1, 2))) <= most).all()
    moved = g.astype("float64") * s
    if slots:
        moved += MOMENTUM.momentum * slots[0].astype("float64")
        np.testing.assert_allclose(changed[1].numpy(), moved, rtol=1e-5, atol=4 * bound)
    np.testing.assert_allclose(changed[0].numpy(), w - 1e-2 * moved, rtol=1e-5, atol=4e-2 * bound)


@pytest.mark.parametrize("name", ["many chunks", "a sum in parts"])
def test_one_and_two_threads_give_the_same_bits(name):
    func = _kernel(name, "plain")
    x, ct, w, s = _values(name, "plain")
    named = {f"p{k}": a for k, a in enumerate([x, ct, w, s, RATE])}
    inputs = [named[str(p.name)] for p in func.params if str(p.name) in named]
    one, two = run_on_one_and_two_threads(func, inputs)
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_a_gradient_that_is_kept_beside_its_update_has_no_rule():
    x, ct, weight, _ = CASES["1x1"]

    def build(x, ct, w, rate):
        bb = relax.BlockBuilder.current()
        g = bb.emit(_gradient("1x1")(x, ct))
        scaled = bb.emit(relax.op.multiply(g, g))
        sums = bb.emit(relax.op.sum(bb.emit(relax.op.multiply(scaled, w)), axis=[0, 1, 2]))
        new = bb.emit(relax.op.subtract(w, bb.emit(relax.op.multiply(rate, scaled))))
        return relax.Tuple([scaled, sums, new])

    kernels = fuse_kernels(build, *((s, "float32") for s in (x, ct, weight, ())), with_readers=True)
    assert all(rule_of(k) != "reduction" or "weight_grad" not in str(k) for k in kernels)
