"""What the operators do beyond the float64 values that test_rules.py compares."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import tvm
from tvm import relax
from tvm.relax import op

from pock_tvm.relay_passes.operators import LOWERINGS
from pock_tvm.relay_passes.operators.cross_entropy import cross_entropy, cross_entropy_grad
from pock_tvm.relay_passes.operators.scatter_add import scatter_add


def run(build, *arrays):
    """Compile ``build`` for the shapes and types of ``arrays`` and return its value for them."""
    params = [
        relax.Var(f"x{i}", relax.TensorType(a.shape, str(a.dtype))) for i, a in enumerate(arrays)
    ]
    bb = relax.BlockBuilder()
    with bb.function("main", params):
        with bb.dataflow():
            out = bb.emit_output(build(*params))
        bb.emit_func_output(out)
    vm = relax.VirtualMachine(
        tvm.compile(relax.transform.LegalizeOps(LOWERINGS)(bb.get()), target="llvm"), tvm.cpu()
    )
    return vm["main"](*(tvm.runtime.tensor(a) for a in arrays)).numpy()


@pytest.mark.parametrize("labels_type", ["int32", "int64"])
def test_cross_entropy_in_float32(labels_type: str) -> None:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((16, 10), "float32") * 30
    labels = rng.integers(0, 10, 16).astype(labels_type)
    labels[3] = -100
    scale = np.array(0.5, "float32")
    options = {"label_smoothing": 0.1}
    loss = run(lambda x, y: cross_entropy(x, y, **options), logits, labels)
    grad = run(
        lambda x, y, ct: cross_entropy_grad(cross_entropy(x, y, **options), ct),
        logits,
        labels,
        scale,
    )
    x = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    expected = F.cross_entropy(x, torch.tensor(labels, dtype=torch.int64), **options)
    (expected * 0.5).backward()
    assert loss.dtype == grad.dtype == np.float32
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-6)
    np.testing.assert_allclose(grad, x.grad.numpy(), rtol=1e-5, atol=1e-8)


def test_cross_entropy_refuses_token_level_logits() -> None:
    with pytest.raises(ValueError, match=r"\[N, C\] logits"):
        run(cross_entropy, np.ones((2, 3, 4), "float32"), np.ones((2, 3), "int64"))


def test_scatter_add_ignores_indices_out_of_range() -> None:
    ct = np.arange(8, dtype="float32").reshape(4, 2)
    indices = np.array([2, -1, 0, 3], "int32")
    out = run(lambda c, i: scatter_add(c, i, (3, 2), 0), ct, indices)
    np.testing.assert_array_equal(out, [[4, 5], [0, 0], [0, 1]])


def test_layer_norm_does_not_cancel_in_float32() -> None:
    x = np.random.default_rng(0).standard_normal((4, 64), "float32") + 1000
    ones, zeros = np.ones(64, "float32"), np.zeros(64, "float32")
    out = run(lambda x, g, b: op.nn.layer_norm(x, g, b, axes=[-1]), x, ones, zeros)
    expected = F.layer_norm(torch.tensor(x, dtype=torch.float64), (64,)).numpy()
    # E[x²] - E[x]² would be off by about 1000² · 2⁻²⁴ = 0.06.
    np.testing.assert_allclose(out, expected, atol=1e-3)
