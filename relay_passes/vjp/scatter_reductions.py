"""Derivatives of updates that are multiplied with what stands in their place, or compete with it.

y[i] = x[i] ∘ u₀ ∘ u₁ ∘ … over all updates of one place. ``scatter`` and ``gather`` write and read
at the indices of the call, so that ``scatter_elements`` and ``scatter_nd`` share what stands here.
"""

from collections.abc import Callable

from tvm.relax import Expr
from tvm.relax import op as R  # noqa: N812  the name that TVMScript gives the same operators

from pock_tvm.relay_passes.vjp.broadcast import dtype_of, scalar, shape_of

Scatter = Callable[[Expr, Expr, str], Expr]
"""(tensor, updates, reduction) -> the tensor, updated at the call's indices."""

Gather = Callable[[Expr], Expr]


def product_updates(ct: Expr, x: Expr, updates: Expr, scatter: Scatter, gather: Gather) -> Expr:
    """ū = ȳ · x · Π of the other updates of the place; zeros among them do no harm.

    Let p = x · Π of the updates that are not 0, and z count those that are. An update that is not 0
    gets ȳ p / u where z = 0; one that is 0 gets ȳ p where it is the only one; others get nothing.
    """
    is_zero = R.equal(updates, scalar(0, updates))
    zero_here = R.astype(is_zero, dtype_of(x))
    divisor = R.where(is_zero, scalar(1, updates), updates)
    rest = gather(scatter(x, divisor, "mul"))
    zeros = gather(scatter(R.zeros(shape_of(x), dtype_of(x)), zero_here, "add"))
    counts = R.equal(zeros, zero_here)
    return gather(ct) * R.where(counts, rest / divisor, scalar(0, updates))


def extremum_bars(
    ct: Expr, x: Expr, updates: Expr, y: Expr, scatter: Scatter, gather: Gather
) -> tuple[Callable[[], Expr], Callable[[], Expr]]:
    """x̄ = ȳ / n where x = y, ū = ȳ / n where u = y, n counting all that equal y, as in PyTorch."""
    x_hit = R.astype(R.equal(x, y), dtype_of(x))
    u_hit = R.astype(R.equal(updates, gather(y)), dtype_of(x))
    share = ct / scatter(x_hit, u_hit, "add")
    return lambda: share * x_hit, lambda: gather(share) * u_hit
