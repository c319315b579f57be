"""VJP rules of products: matmul, convolution and its transpose."""

from tvm.relax import Call, Expr, Var
from tvm.relax import op as R  # noqa: N812  the name that TVMScript gives the same operators

from pock_tvm.relay_passes.operators.conv2d import Window, data_grad, weight_grad
from pock_tvm.relay_passes.vjp.broadcast import Shape, reshape, shape_of, sum_to_shape
from pock_tvm.relay_passes.vjp.registry import Cotangents, register_vjp


def _reshape(x: Expr, source: Shape, target: Shape) -> Expr:
    return x if source == target else reshape(x, target)


def _swap_last(x: Expr, rank: int) -> Expr:
    return R.permute_dims(x, [*range(rank - 2), rank - 1, rank - 2])


@register_vjp("relax.matmul")
def matmul_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """z = x @ y: x̄ = z̄ @ yᵀ, ȳ = xᵀ @ z̄, each summed over the batch axes it was broadcast along.

    Vectors are treated as matrices of one row or column. If y is one matrix for the whole batch,
    the batch axes of x join its rows, so that ȳ is one product instead of a sum of products.
    """
    x, y = call.args
    x_shape, y_shape = shape_of(x), shape_of(y)
    m, k = ((1, *x_shape) if len(x_shape) == 1 else x_shape)[-2:]
    n = y_shape[-1] if len(y_shape) > 1 else 1
    y_batch = y_shape[:-2]
    out_batch = shape_of(out)[: max(len(x_shape[:-2]), len(y_batch))]
    x_batch = x_shape[:-2]
    if not y_batch and out_batch:
        for extent in out_batch:
            m *= extent
        out_batch = x_batch = ()
    x_matrix, y_matrix, z_matrix = (*x_batch, m, k), (*y_batch, k, n), (*out_batch, m, n)
    z_bar = _reshape(ct, shape_of(out), z_matrix)

    def x_bar() -> Expr:
        y_t = _swap_last(_reshape(y, y_shape, y_matrix), len(y_matrix))
        product = sum_to_shape(R.matmul(z_bar, y_t), (*out_batch, m, k), x_matrix)
        return _reshape(product, x_matrix, x_shape)

    def y_bar() -> Expr:
        x_t = _swap_last(_reshape(x, x_shape, x_matrix), len(x_matrix))
        product = sum_to_shape(R.matmul(x_t, z_bar), (*out_batch, k, n), y_matrix)
        return _reshape(product, y_matrix, y_shape)

    return x_bar, y_bar


@register_vjp("relax.nn.conv2d")
def conv2d_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = x ∗ w, channels last: both gradients are operators of our own."""
    if (call.attrs.data_layout, call.attrs.kernel_layout) != ("NHWC", "HWIO"):
        raise ValueError(f"conv2d is not channels-last: {call}")
    x, w = call.args
    window = Window.of(call)
    return (
        lambda: data_grad(ct, w, shape_of(x), window),
        lambda: weight_grad(x, ct, shape_of(w), window),
    )


@register_vjp("pock.conv2d_data_grad")
def conv2d_data_grad_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """y = x ∗ᵀ w, a transposed convolution: x̄ = ȳ ∗ w, w̄ = the weight gradient of ȳ ∗ w for x."""
    x, w = call.args
    window = Window.of(call)

    def x_bar() -> Expr:
        z = R.nn.conv2d(ct, w, **window.attrs(), data_layout="NHWC", kernel_layout="HWIO")
        pixels = list(shape_of(x)[1:3])
        # Where the output was padded by more than a stride, ȳ ∗ w reaches past x.
        return z if window.outputs(ct, w) == pixels else R.strided_slice(z, [1, 2], [0, 0], pixels)

    return x_bar, lambda: weight_grad(ct, x, shape_of(w), window)
