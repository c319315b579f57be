import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax import op as R

from pock_tvm.relay_passes.fuse_transpose_into_matmul import FuseTransposeIntoMatmul
from pock_tvm.relay_passes.operators.matmul import legalize_matmul


def _module(build, *shapes):
    bb = relax.BlockBuilder()
    params = [relax.Var(f"p{i}", relax.TensorType(s, "float64")) for i, s in enumerate(shapes)]
    with bb.function("main", params):
        with bb.dataflow():
            out = bb.emit_output(bb.normalize(build(bb, *params)))
        bb.emit_func_output(out)
    return bb.get()


def _run(mod, arrays):
    mod = relax.transform.LegalizeOps({"relax.matmul": legalize_matmul})(mod)
    vm = relax.VirtualMachine(tvm.compile(mod, target="llvm"), tvm.cpu())
    return vm["main"](*(tvm.runtime.tensor(a) for a in arrays)).numpy()


def _fuse(mod):
    return relax.transform.CanonicalizeBindings()(FuseTransposeIntoMatmul()(mod))


def _operators(mod):
    return [b.value.op.name for block in mod["main"].body.blocks for b in block.bindings]


def _swap(bb, x):
    rank = len(x.ty.shape)
    return bb.emit(R.permute_dims(x, [*range(rank - 2), rank - 1, rank - 2]))


CASES = {
    "NT": (lambda bb, x, y: R.matmul(x, _swap(bb, y)), (3, 5), (7, 5)),
    "TN": (lambda bb, x, y: R.matmul(_swap(bb, x), y), (5, 3), (5, 7)),
    "TT": (lambda bb, x, y: R.matmul(_swap(bb, x), _swap(bb, y)), (5, 3), (7, 5)),
    "batch": (lambda bb, x, y: R.matmul(_swap(bb, x), y), (2, 4, 5, 3), (4, 5, 7)),
    "broadcast": (lambda bb, x, y: R.matmul(x, _swap(bb, y)), (2, 4, 3, 5), (2, 1, 7, 5)),
    "heads": (
        lambda bb, x, y: R.matmul(
            bb.emit(R.permute_dims(x, [0, 2, 1, 3])), bb.emit(R.permute_dims(y, [0, 2, 3, 1]))
        ),
        (2, 3, 4, 5),
        (2, 7, 4, 5),
    ),
    "twice": (
        lambda bb, x, y: R.matmul(x, _swap(bb, bb.emit(R.permute_dims(y, [1, 0, 2])))),
        (4, 3, 5),
        (7, 4, 5),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_reads_through_the_transpose(name):
    build, *shapes = CASES[name]
    before = _module(build, *shapes)
    kept = before.clone()
    after = _fuse(before)
    assert _operators(after) == ["pock.matmul"]
    tvm.ir.assert_structural_equal(before, kept)
    tvm.ir.assert_structural_equal(_fuse(after), after)
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s) for s in shapes]
    np.testing.assert_allclose(_run(after, arrays), _run(before, arrays), rtol=1e-12)


def test_leaves_other_products_and_other_uses_alone():
    plain = _module(lambda bb, x, y: R.matmul(x, y), (3, 5), (5, 7))
    tvm.ir.assert_structural_equal(_fuse(plain), plain)
    used = _module(lambda bb, x, y: R.add(_swap(bb, x), y), (3, 5), (5, 3))
    tvm.ir.assert_structural_equal(_fuse(used), used)


@pytest.mark.parametrize(
    "x,y", [((5,), (5, 7)), ((3, 5), (5,)), ((5,), (5,)), ((2, 3, 5), (5,)), ((5,), (2, 5, 3))]
)
def test_lowers_products_of_vectors(x, y):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(x), rng.standard_normal(y)]
    got = _run(_module(lambda bb, a, b: R.matmul(a, b), x, y), arrays)
    np.testing.assert_allclose(got, arrays[0] @ arrays[1], rtol=1e-12)
