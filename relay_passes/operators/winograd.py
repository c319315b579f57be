"""``pock.winograd_conv2d(x, u)``: a 3x3 convolution of stride 1, or its data gradient, by tiles.

    V[t, p, k] = (Bᵀ d B)[t]                  the pixels of tile p, in (m + 2)² numbers per channel
    M[t, p, o] = Σₖ V[t, p, k] · u[t, k, o]   one matrix product for each of them
    y          = Aᵀ M A                       m x m pixels of each tile

``u`` is what ``transform_weight`` made of the convolution's weight; the gradient reads the same
tensor with input and output channels in each other's place. See ``minimal_filtering``.
"""

from collections.abc import Sequence
from math import ceil
from typing import Any

from tvm import relax, te, tirx

from pock_tvm.relay_passes.operators.conv2d import pad_pixels
from pock_tvm.relay_passes.operators.minimal_filtering import Matrix, filtering
from pock_tvm.relay_passes.operators.registry import call_operator, register_operator

_SUMS_THEN_POINTS = 4  # relax's kOutEWiseFusable: what follows element by element joins the kernel


def te_winograd_conv2d(
    x: te.Tensor, u: te.Tensor, shape: Sequence[int], padding: Sequence[int], *, gradient: bool
) -> te.Tensor:
    """Return the convolution of NHWC ``x``, of ``shape``; ``padding`` is at the top and left."""
    _, height, width, depth = (int(d) for d in x.shape)
    _, products, _, columns = (int(d) for d in u.shape)
    side = int(products**0.5)
    f = filtering(side - 2, gradient=gradient)
    m = f.outputs
    batch, rows, cols, channels = shape
    down, across = ceil(rows / m), ceil(cols / m)
    tiles = batch * down * across
    top, left = padding
    # Whole tiles; what they read beyond the picture is zero.
    bottom, right = (
        max(0, a * m + 2 - b) for a, b in ((down, height + top), (across, width + left))
    )
    xp = pad_pixels(x, (top, left, bottom, right))
    i, j = te.reduce_axis((0, side), "i"), te.reduce_axis((0, side), "j")

    def read(t: Any, p: Any, k: Any) -> Any:
        b, row, col = p // (down * across), p // across % down, p % across
        factor = _entry(f.data, t // side, i, x.dtype) * _entry(f.data, t % side, j, x.dtype)
        return te.sum(factor * xp[b, row * m + i, col * m + j, k], axis=[i, j])

    window = [m, top, left]
    v = te.compute(
        (products, tiles, depth),
        read,
        name="winograd_tiles",
        attrs={"pock.kernel": "winograd_tiles", "pock.window": window, **_flat(f.data)},
    )
    k = te.reduce_axis((0, depth), "k")

    def product(t: Any, p: Any, o: Any) -> Any:
        other = (
            u[k // columns, t, o, k % columns] if gradient else u[o // columns, t, k, o % columns]
        )
        return te.sum(v[t, p, k] * other, axis=k)

    total = te.compute(
        (products, tiles, channels),
        product,
        name="winograd_products",
        attrs={"pock.kernel": "winograd_products", "pock.gradient": int(gradient)},
    )
    a, c = te.reduce_axis((0, side), "a"), te.reduce_axis((0, side), "c")

    def write(b: Any, row: Any, col: Any, o: Any) -> Any:
        factor = _entry(f.inverse, row % m, a, x.dtype) * _entry(f.inverse, col % m, c, x.dtype)
        tile = (b * down + row // m) * across + col // m
        return te.sum(factor * total[a * side + c, tile, o], axis=[a, c])

    return te.compute(
        tuple(shape),
        write,
        name="winograd_conv2d",
        attrs={"pock.kernel": "winograd_conv2d", **_flat(f.inverse)},
    )


def _flat(matrix: Matrix) -> dict[str, list[float]]:
    return {"pock.matrix": [entry for row in matrix for entry in row]}


def _entry(matrix: Matrix, row: Any, column: Any, dtype: str) -> Any:
    """Return an entry of a constant matrix at computed indices."""
    found: Any = tirx.const(0.0, dtype)
    for i, entries in enumerate(matrix):
        for j, entry in enumerate(entries):
            if entry:
                here = tirx.all(row == i, column == j)
                found = tirx.Select(here, tirx.const(entry, dtype), found)
    return found


def _infer(call: relax.Call) -> relax.TensorType:
    """Convolution by tiles."""
    return relax.TensorType([int(d) for d in call.attrs["shape"]], call.args[0].ty.dtype)


def _legalize(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    shape, padding = ([int(d) for d in call.attrs[a]] for a in ("shape", "padding"))
    gradient = bool(call.attrs["gradient"])
    return bb.call_te(
        lambda x, u: te_winograd_conv2d(x, u, shape, padding, gradient=gradient),
        *call.args,
        primfunc_name_hint="winograd_conv2d_data_grad" if gradient else "winograd_conv2d",
        primfunc_attrs={"op_pattern": _SUMS_THEN_POINTS},
    )


_WINOGRAD = register_operator("pock.winograd_conv2d", infer_type=_infer, legalize=_legalize)


def winograd_conv2d(
    x: relax.Expr,
    u: relax.Expr,
    shape: Sequence[int],
    padding: Sequence[int],
    *,
    gradient: bool = False,
) -> relax.Call:
    """Build the convolution of ``x`` with a transformed weight, or a data gradient, of ``shape``.

    Args:
        x: NHWC data, or the cotangent.
        u: see ``transform_weight``.
        shape: of the result.
        padding: rows above and columns left of ``x`` that are zero.
        gradient: convolve with the weight turned round, its channels exchanged.
    """
    attrs = {"shape": list(shape), "padding": list(padding), "gradient": int(gradient)}
    return call_operator(_WINOGRAD, x, u, **attrs)
