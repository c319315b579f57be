"""Operators of which some samples can be computed alone: the same values, to the bit."""

import numpy as np
import pytest
from pass_checks import main_of, run
from tvm import relax
from tvm.relax import op

from pock_tvm.relay_passes.batch_axis import flat_operands, sample_operands
from pock_tvm.relay_passes.operators.attention import attention
from pock_tvm.relay_passes.rewrite import bindings_of

X, V = (4, 6, 6, 8), (8,)
PARTS = 2

BY_SAMPLE = {
    "activation": ((X,), op.nn.gelu),
    "scaled": ((X, V), op.multiply),
    "two sources": ((X, X), op.add),
    "one row for all": ((X, (1, 6, 6, 8)), op.add),
    "clipped": ((X,), lambda x: op.clip(x, 0.6, 1.0)),
    "conv2d": (
        (X, (3, 3, 8, 5)),
        lambda x, w: op.nn.conv2d(x, w, padding=1, data_layout="NHWC", kernel_layout="HWIO"),
    ),
    "pool": ((X,), lambda x: op.nn.max_pool2d(x, (2, 2), (2, 2), layout="NHWC")),
    "softmax": ((X,), lambda x: op.nn.softmax(x, -1)),
    "layer_norm": ((X, V, V), lambda x, g, b: op.nn.layer_norm(x, g, b, axes=[-1])),
    "mean of pixels": ((X,), lambda x: op.mean(x, [1, 2])),
    "transposed": ((X,), lambda x: op.permute_dims(x, [0, 3, 1, 2])),
    "samples and pixels in one axis": ((X,), lambda x: op.reshape(x, (4 * 36, 8))),
    "concat of channels": ((X, X), lambda x, y: op.concat([x, y], -1)),
    "linear": (((4, 7, 8), (8, 3)), op.matmul),
    "linear of rows": (((4, 8), (8, 3)), op.matmul),
    "product of each": (((4, 7, 8), (4, 8, 3)), op.matmul),
    "product with one": (((4, 2, 7, 8), (1, 2, 8, 3)), op.matmul),
    "part of the pixels": ((X,), lambda x: op.strided_slice(x, [1, 3], [2, 0], [5, 4])),
    "attention": (
        ((4, 2, 7, 8), (4, 2, 8, 5), (4, 2, 5, 3)),
        lambda q, k, v: attention(q, k, v, [], 0.3),
    ),
    "attention under one mask": (
        ((4, 2, 7, 8), (4, 2, 8, 5), (4, 2, 5, 3), (1, 1, 7, 5)),
        lambda q, k, v, m: attention(q, k, v, [m], 0.3),
    ),
    "attention under each one's mask": (
        ((4, 2, 7, 8), (4, 2, 8, 5), (4, 2, 5, 3), (4, 1, 1, 5)),
        lambda q, k, v, m: attention(q, k, v, [m], 0.3),
    ),
}
MIXED = {
    "mean of all": ((X,), op.mean),
    "mean of samples": ((X,), lambda x: op.mean(x, [0])),
    "softmax over samples": ((X,), lambda x: op.nn.softmax(x, -4)),
    "samples moved": ((X,), lambda x: op.permute_dims(x, [1, 0, 2, 3])),
    "samples one below the other": ((X, X), lambda x, y: op.concat([x, y], 0)),
    "a vector against a matrix": (((8,), (8, 3)), op.matmul),
    "some of the samples": ((X,), lambda x: op.strided_slice(x, [0], [0], [2])),
    "summed up": ((X,), lambda x: op.cumsum(x, 0)),
}


def call_of(shapes, build):
    """Return the call that ``build`` makes of operands of these shapes, and their module."""
    names = [f"x{i}" for i in range(len(shapes))]
    mod = main_of(
        lambda bb, **params: bb.emit(build(*params.values())),
        dict(zip(names, shapes, strict=True)),
    )
    return mod, [b.value for b in bindings_of(mod["main"]) if isinstance(b.value, relax.Call)][-1]


@pytest.mark.parametrize("case", BY_SAMPLE)
def test_parts_have_the_values_of_the_whole(case):
    shapes, build = BY_SAMPLE[case]
    mod, call = call_of(shapes, build)
    split = sample_operands(call)
    assert split is not None
    assert any(split)
    rng = np.random.default_rng(0)
    arrays = [rng.uniform(0.5, 1.5, s) for s in shapes]
    (whole,) = run(mod, *arrays)
    rows = [s[0] // PARTS for s in shapes]
    smaller = [(n, *s[1:]) if cut else s for s, cut, n in zip(shapes, split, rows, strict=True)]

    def part(*params):
        if case.startswith("samples and"):
            return op.reshape(params[0], (4 * 36 // PARTS, 8))
        return build(*params)

    small, _ = call_of(smaller, part)
    found = [
        run(small, *(a[k * n : (k + 1) * n] if cut else a
                     for a, cut, n in zip(arrays, split, rows, strict=True)))[0]
        for k in range(PARTS)
    ]  # fmt: skip
    np.testing.assert_array_equal(np.concatenate(found), whole)


@pytest.mark.parametrize("case", MIXED)
def test_what_mixes_samples_is_refused(case):
    _, call = call_of(*MIXED[case])
    assert sample_operands(call) is None


def test_a_lookup_splits_its_indices():
    table = relax.Var("table", relax.TensorType((9, 3), "float32"))
    ids = relax.Var("ids", relax.TensorType((4, 7), "int32"))
    bb = relax.BlockBuilder()
    assert sample_operands(bb.normalize(op.take(table, ids, axis=0))) == (False, True)
    assert sample_operands(bb.normalize(op.take(table, ids, axis=1))) is None


def test_operands_of_a_tuple_count_one_by_one():
    x, y = (relax.Var(n, relax.TensorType(X, "float32")) for n in "xy")
    call = relax.BlockBuilder().normalize(op.concat([x, y], 1))
    assert [v.name for v in flat_operands(call)] == ["x", "y"]
