"""Small kernels to measure."""

from tvm import te

from pock_tvm.compilation.kernel_sources import KernelSource
from pock_tvm.relay_passes.operators.matmul import matmul


def product(m, n, k):
    """Return x @ y as a kernel."""
    x, y = te.placeholder((m, k), name="x"), te.placeholder((k, n), name="y")
    return te.create_prim_func([x, y, matmul(x, y, [0, 1], [0, 1])])


def source(m, n, k):
    return KernelSource(product(m, n, k), in_place=False)
