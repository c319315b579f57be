"""Winograd's minimal filtering F(m x m, 3 x 3) as matrices (Lavin and Gray 2015, arXiv:1509.09308).

    y = Aᵀ [(G g Gᵀ) ∘ (Bᵀ d B)] A        m x m outputs of (m + 2) x (m + 2) inputs d, 3 x 3 taps g

Rows of G evaluate the taps, as a polynomial, at the points 0, 1, -1, 2, -2 and ∞: as many as m + 2,
so few that the numbers stay small, which is what the error grows with (Barabasz et al. 2020,
arXiv:1803.10986).

A data gradient convolves with the taps turned round, g'(x) = x² g(1 / x). At the points 1 / x it
has the values of g but for a factor, so the same transformed weight serves both: the gradient has
Aᵀ and Bᵀ for the inverse points, and 0 changes places with ∞.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np

TAPS = 3

Matrix = tuple[tuple[float, ...], ...]
_Point = Fraction | None
"""None is ∞."""


@dataclass(frozen=True)
class Filtering:
    """F(``outputs`` x ``outputs``, 3 x 3), of the convolution or of its data gradient."""

    outputs: int
    kernel: Matrix
    """G, (m + 2) x 3."""
    data: Matrix
    """Bᵀ, (m + 2) x (m + 2)."""
    inverse: Matrix
    """Aᵀ, m x (m + 2)."""

    @property
    def inputs(self) -> int:
        """Return the side of the tile that is read."""
        return self.outputs + TAPS - 1

    @property
    def products(self) -> int:
        """Return the multiplications of a tile and a channel."""
        return self.inputs**2


@cache
def filtering(outputs: int, *, gradient: bool = False) -> Filtering:
    """Return the matrices of F(outputs x outputs, 3 x 3), for 2 or 4 outputs."""
    points: list[_Point] = [Fraction(p) for p in (0, 1, -1, 2, -2)[: outputs + 1]]
    points.append(None)
    kernel = [[f / _spread(p, points) for f in _powers(p, TAPS)] for p in points]
    used, factors = points, [Fraction(1)] * len(points)
    if gradient:
        used = [_inverse(p) for p in points]
        # What a row of G gives for g is this much of what the inverse point gives for g'.
        factors = [
            _spread(p, points) * (q**2 if p and q else 1) for p, q in zip(points, used, strict=True)
        ]
        factors = [f / _spread(q, used) for f, q in zip(factors, used, strict=True)]
    data = [[c * f for c in _others(q, used)] for q, f in zip(used, factors, strict=True)]
    inverse = [[_powers(q, outputs)[i] for q in used] for i in range(outputs)]
    return Filtering(outputs, _floats(kernel), _floats(data), _floats(inverse))


def transform_weight(weight: np.ndarray, outputs: int, columns: int) -> np.ndarray:
    """Return G g Gᵀ of a 3 x 3 HWIO weight, computed in float64 and rounded once.

    Returns:
        [O / columns, (m + 2)², I, columns]: what a block of output channels reads lies together.
    """
    g = np.asarray(filtering(outputs).kernel)
    _, _, channels, out_channels = weight.shape
    whole = np.einsum("ap,bq,pqio->abio", g, g, weight.astype("float64"))
    whole = whole.reshape(-1, channels, out_channels // columns, columns).transpose(2, 0, 1, 3)
    return np.ascontiguousarray(whole, dtype=weight.dtype)


def _inverse(point: _Point) -> _Point:
    if point is None:
        return Fraction(0)
    return 1 / point if point else None


def _powers(point: _Point, count: int) -> list[Fraction]:
    """Return the powers of a point; of ∞, the highest alone."""
    if point is None:
        return [Fraction(k == count - 1) for k in range(count)]
    return [point**k for k in range(count)]


def _spread(point: _Point, points: list[_Point]) -> Fraction:
    """Return the product of the differences from the other points."""
    product = Fraction(1)
    for other in points:
        if point is not None and other is not None and other != point:
            product *= point - other
    return product


def _others(point: _Point, points: list[_Point]) -> list[Fraction]:
    """Return the polynomial that is zero at all other points, lowest power first."""
    polynomial = [Fraction(1)]
    for other in points:
        if other is None or other == point:
            continue
        shifted = [Fraction(0), *polynomial]
        scaled = [-other * c for c in polynomial] + [Fraction(0)]
        polynomial = [a + b for a, b in zip(shifted, scaled, strict=True)]
    return polynomial + [Fraction(0)] * (len(points) - len(polynomial))


def _floats(matrix: list[list[Fraction]]) -> Matrix:
    return tuple(tuple(float(x) for x in row) for row in matrix)
