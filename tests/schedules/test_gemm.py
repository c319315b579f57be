import numpy as np
import pytest
import tvm
from kernel_cases import (
    assembly,
    compile_kernel,
    count,
    fuse_kernel,
    run_kernel,
    run_on_one_and_two_threads,
)
from tvm import s_tir, te, tirx
from tvm.relax import op as R

from pock_tvm.relay_passes.operators.matmul import matmul, permuted_matmul
from pock_tvm.schedules.cpu.blocking import block
from pock_tvm.schedules.cpu.contraction import read_contraction
from pock_tvm.schedules.cpu.gemm import gemm
from pock_tvm.schedules.cpu.tiles import register_tile
from pock_tvm.schedules.cpu.vectors import pieces
from pock_tvm.targets import get_target

FORMS = ("NN", "NT", "TN", "TT")


def _operands(form, m, n, k, batch=(), dtype="float32"):
    rng = np.random.default_rng(m * 7919 + n * 31 + k)
    a = rng.standard_normal((*batch, *((k, m) if form[0] == "T" else (m, k)))).astype(dtype)
    b = rng.standard_normal((*batch, *((n, k) if form[1] == "T" else (k, n)))).astype(dtype)
    return a, b


def _axes(form, rank):
    swapped = [*range(rank - 2), rank - 1, rank - 2]
    return [swapped if c == "T" else list(range(rank)) for c in form]


def _product(form, a, b):
    a, b = (x.astype("float64") for x in (a, b))
    return (a.swapaxes(-1, -2) if form[0] == "T" else a) @ (
        b.swapaxes(-1, -2) if form[1] == "T" else b
    )


def _close(got, expected, k):
    """k sums in a row, each rounded: off by at most k·ε of a partial sum, far less in practice."""
    np.testing.assert_allclose(got, expected, rtol=0, atol=2 * np.finfo(got.dtype).eps * (k + 8))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "m,n,k",
    [
        (128, 96, 64),
        (1, 10, 77),
        (3, 21, 130),
        (2, 1000, 40),
        (37, 53, 29),
        (9, 1, 64),
        (64, 48, 5000),
        (13, 50, 1),
    ],
)
def test_matrix_product(form, m, n, k):
    a, b = _operands(form, m, n, k)
    func = fuse_kernel(lambda x, y: permuted_matmul(x, y, *_axes(form, 2)), a, b)
    assert gemm(func, get_target("host")) is not None
    (got,) = run_kernel(func, [a, b])
    _close(got, _product(form, a, b), k)


@pytest.mark.parametrize(
    "m,n,k",
    [(16, 96, 20_000), (13, 37, 30_001), (3, 100, 33_000), (16, 96, 100_352)],
)
def test_a_long_sum_into_a_small_result_is_cut_in_parts(m, n, k):
    a, b = _operands("TN", m, n, k)
    func = fuse_kernel(lambda x, y: permuted_matmul(x, y, [1, 0], [0, 1]), a, b)
    spec = get_target("host")
    cut = block(read_contraction(s_tir.Schedule(func), spec), spec)
    assert cut.parts > 1
    size = -(-cut.sum.blocks // cut.parts)
    assert (cut.parts - 1) * size < cut.sum.blocks
    (one,), (two,) = run_on_one_and_two_threads(func, [a, b])
    _close(one, _product("TN", a, b), k)
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("batch", [(3,), (2, 3)])
def test_batched_product(form, batch):
    a, b = _operands(form, 21, 40, 16, batch)
    axes = _axes(form, len(batch) + 2)
    func = fuse_kernel(lambda x, y: permuted_matmul(x, y, *axes), a, b)
    (got,) = run_kernel(func, [a, b])
    _close(got, _product(form, a, b), 16)


def test_float64():
    a, b = _operands("NT", 37, 53, 29, dtype="float64")
    func = fuse_kernel(lambda x, y: permuted_matmul(x, y, [0, 1], [1, 0]), a, b)
    (got,) = run_kernel(func, [a, b])
    np.testing.assert_allclose(got, _product("NT", a, b), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("batch", [(), (2,)])
def test_one_weight_for_the_whole_batch(batch):
    a = _operands("NN", 19, 1, 24, batch)[0]
    b, bias = _operands("NN", 1, 33, 24)[1], np.arange(33, dtype="float32")
    func = fuse_kernel(lambda x, y, z: R.nn.relu(R.add(R.matmul(x, y), z)), a, b, bias)
    (got,) = run_kernel(func, [a, b, bias])
    _close(got, np.maximum(_product("NN", a, b) + bias, 0), 24)


@pytest.mark.parametrize("m,n,k", [(40, 72, 30), (17, 10, 2000)])
def test_sgd_update_is_the_epilogue(m, n, k):
    a, b = _operands("TN", m, n, k)
    w, rate = np.ones((m, n), "float32"), np.float32(0.25)
    func = fuse_kernel(
        lambda x, y, lr, z: R.subtract(z, R.multiply(lr, permuted_matmul(x, y, *_axes("TN", 2)))),
        a,
        b,
        np.asarray(rate),
        w,
    )
    (got,) = run_kernel(func, [a, b, np.asarray(rate), w])
    _close(got, w - rate * _product("TN", a, b), k)


def test_heads_are_read_in_place():
    rng = np.random.default_rng(0)
    q, k = (rng.standard_normal((2, 20, 3, 16)).astype("float32") for _ in range(2))
    func = fuse_kernel(lambda x, y: permuted_matmul(x, y, [0, 2, 1, 3], [0, 2, 3, 1]), q, k)
    (got,) = run_kernel(func, [q, k])
    _close(got, q.transpose(0, 2, 1, 3) @ k.transpose(0, 2, 3, 1), 16)


def test_prologue_is_read_through_and_sum_and_epilogue_are_both_stored():
    x, y = te.placeholder((24, 20), name="x"), te.placeholder((20, 40), name="y")
    mask = te.placeholder((24, 20), name="mask")
    masked = te.compute((24, 20), lambda i, j: x[i, j] * mask[i, j], name="masked")
    z = matmul(masked, y, [0, 1], [0, 1])
    r = te.compute((24, 40), lambda i, j: tirx.max(z[i, j], tirx.const(0.0)), name="relu")
    func = te.create_prim_func([x, y, mask, z, r])
    rng = np.random.default_rng(0)
    a, b, c = (rng.standard_normal(s).astype("float32") for s in ((24, 20), (20, 40), (24, 20)))
    got_z, got_r = run_kernel(func, [a, b, c])
    _close(got_z, (a * c).astype("float64") @ b, 20)
    np.testing.assert_array_equal(got_r, np.maximum(got_z, 0))


@pytest.mark.parametrize("m,n,k", [(128, 768, 256), (50, 16, 9000)])
def test_threads_do_not_change_the_result(m, n, k):
    a, b = _operands("TN", m, n, k)
    func = fuse_kernel(lambda x, y: permuted_matmul(x, y, [1, 0], [0, 1]), a, b)
    configure = tvm.get_global_func("runtime.config_threadpool")
    kernel = compile_kernel(func)["main"]
    results = []
    for threads in (1, 2):
        configure(1, threads)
        out = tvm.runtime.tensor(np.full((m, n), np.nan, "float32"))
        kernel(tvm.runtime.tensor(a), tvm.runtime.tensor(b), out)
        results.append(out.numpy())
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "spec,fma,scalar",
    [
        ("x86-64-v4", r"vfmadd\w+ps\s.*zmm", r"vfmadd\w+ss"),
        ("x86-64-v3", r"vfmadd\w+ps\s.*ymm", r"vfmadd\w+ss"),
        ("raspberry-pi-4", r"fmla\s+v\d+\.4s", r"\bfmadd\b"),
    ],
)
def test_instructions(form, spec, fma, scalar):
    a, b = _operands(form, 64, 96, 64)
    text = assembly(fuse_kernel(lambda x, y: permuted_matmul(x, y, *_axes(form, 2)), a, b), spec)
    assert count(fma, text) >= 12
    assert count(scalar, text) == 0


@pytest.mark.parametrize("spec", ["host", "x86-64-v3", "x86-64-v4", "raspberry-pi-4"])
@pytest.mark.parametrize("rows,columns", [(1, 1), (1, 1000), (7, 64), (128, 768), (12544, 24)])
def test_tiles_fit_the_registers(spec, rows, columns):
    spec = get_target(spec)
    tile = register_tile(rows, columns, "float32", spec)
    assert tile.rows * tile.vectors + tile.vectors + 1 <= spec.vector_registers
    cuts = pieces(min(tile.width, columns), tile.lanes)
    assert sum(lanes for _, lanes in cuts) == min(tile.width, columns)


def test_declines_what_is_no_product():
    spec = get_target("host")
    x = np.zeros((4, 8), "float32")
    assert gemm(fuse_kernel(lambda a: R.sum(a, [1]), x), spec) is None
    assert gemm(fuse_kernel(lambda a: R.nn.relu(a), x), spec) is None
    vector = np.zeros((8,), "float32")
    assert gemm(fuse_kernel(lambda a, b: R.matmul(a, b), vector, vector), spec) is None
