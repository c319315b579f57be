"""VJP rule of sums of products that are written with one letter per axis."""

import string
from collections.abc import Sequence

import numpy as np
from tvm import relax
from tvm.relax import Call, Expr, Var
from tvm.relax import op as R  # noqa: N812  the name that TVMScript gives the same operators

from pock_tvm.relay_passes.vjp.broadcast import Shape, dtype_of, reshape, shape_of, sum_to_shape
from pock_tvm.relay_passes.vjp.registry import Cotangents, operands, register_vjp


@register_vjp("relax.einsum")
def einsum_vjp(ct: Expr, call: Call, out: Var) -> Cotangents:
    """z = Σ Π x: x̄ = Σ z̄ · Π of the others, over all letters that x does not have.

    A letter that x alone has was summed away: x̄ is the same along its axis. One that stands twice
    in x means its diagonal: x̄ is zero beside it.
    """
    xs = operands(call)
    inputs, output = _letters(str(call.attrs.subscripts), [len(shape_of(x)) for x in xs])
    extents: dict[str, int] = {}
    for x, letters in zip(xs, inputs, strict=True):
        for letter, extent in zip(letters, shape_of(x), strict=True):
            extents[letter] = (
                max(extent, extents.get(letter, 0)) if extent != 1 else (extents.get(letter, 1))
            )

    def operand_bar(k: int) -> Expr:
        others = [*xs[:k], *xs[k + 1 :]]
        terms = [output, *inputs[:k], *inputs[k + 1 :]]
        reached = [c for c in dict.fromkeys(inputs[k]) if any(c in term for term in terms)]
        equation = f"{','.join(terms)}->{''.join(reached)}"
        g = R.einsum([ct, *others], equation)
        return _spread(g, reached, inputs[k], extents, shape_of(xs[k]), like=ct)

    return tuple(lambda k=k: operand_bar(k) for k in range(len(xs)))


def _letters(subscripts: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Return the letters of each operand and of the output, the ellipsis written out."""
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    spare = [c for c in string.ascii_letters if c not in subscripts]
    widths = [rank - len(t.replace("...", "")) for t, rank in zip(terms, ranks, strict=True)]
    dots = spare[: max([w for t, w in zip(terms, widths, strict=True) if "..." in t], default=0)]
    if not arrow:
        plain = inputs.replace("...", "").replace(",", "")
        output = "..." + "".join(sorted(c for c in set(plain) if plain.count(c) == 1))
    written = [
        t.replace("...", "".join(dots[len(dots) - w :])) for t, w in zip(terms, widths, strict=True)
    ]
    return written, output.replace("...", "".join(dots))


def _spread(
    g: Expr, have: list[str], letters: str, extents: dict[str, int], shape: Shape, like: Expr
) -> Expr:
    """Give a tensor with one axis per letter of ``have`` the axes of an operand."""
    first = [letters.index(c) == axis for axis, c in enumerate(letters)]
    full = tuple(extents[c] for c in letters)
    aligned = tuple(
        extents[c] if new and c in have else 1 for c, new in zip(letters, first, strict=True)
    )
    g = R.broadcast_to(reshape(g, aligned), full)
    if not all(first):
        places = np.indices(full)
        on_diagonal = np.ones(full, bool)
        for axis, c in enumerate(letters):
            on_diagonal &= places[axis] == places[letters.index(c)]
        g = g * relax.const(on_diagonal.astype(dtype_of(like)), dtype_of(like))
    return sum_to_shape(g, full, shape)
