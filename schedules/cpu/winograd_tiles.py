"""The transforms of Winograd's tiles: a small constant matrix applied to rows, then to columns.

    half[a, j] = Σᵢ matrix[a, i] · source[i, j]        every entry a vector of channels
    result[a, b] = Σⱼ matrix[b, j] · half[a, j]

The matrices belong to points in pairs, x and -x: two rows, or two columns, that differ in signs
alone. What they have in common is computed once.
"""

from collections.abc import Callable, Sequence
from typing import Any

from tvm import tirx

from pock_tvm.schedules.cpu.nest import sequence

Matrix = Sequence[Sequence[float]]
Load = Callable[[int], Any]
Keep = Callable[[int, Any], Any]


def transform(
    matrix: Matrix,
    lanes: int,
    index: str,
    dtype: str,
    load: Callable[[int, int], Any],
    store: Callable[[int, int, Any], Any],
) -> Any:
    """Apply ``matrix`` to both axes of a square of vectors: ``store(a, b, value)``."""
    rows, side = len(matrix), len(matrix[0])
    half = Vectors(rows * side, lanes, index, dtype, "half")
    spare = Vectors(side, lanes, index, dtype, "spare")
    steps = [tirx.AllocBuffer(half.buffer), tirx.AllocBuffer(spare.buffer)]
    for j in range(side):
        steps += combine(
            matrix,
            lambda i, j=j: load(i, j),  # type: ignore[misc]
            lambda a, value, j=j: half.store(a * side + j, value),  # type: ignore[misc]
            spare,
        )
    for a in range(rows):
        steps += combine(
            matrix,
            lambda j, a=a: half.load(a * side + j),  # type: ignore[misc]
            lambda b, value, a=a: store(a, b, value),  # type: ignore[misc]
            spare,
        )
    return sequence(*steps)


class Vectors:
    """A small buffer of vectors, which LLVM keeps in registers where it can."""

    def __init__(self, count: int, lanes: int, index: str, dtype: str, name: str) -> None:
        size = tirx.const(count * lanes, index)
        self.buffer = tirx.decl_buffer([size], dtype, name, scope="local")
        self.lanes, self.index = lanes, index

    def load(self, place: Any) -> Any:
        """Return a vector."""
        return tirx.BufferLoad(self.buffer, [self._run(place)])

    def store(self, place: Any, value: Any) -> Any:
        """Store a vector."""
        return tirx.BufferStore(self.buffer, value, [self._run(place)])

    def _run(self, place: Any) -> Any:
        start = place * self.lanes
        return run(tirx.const(start, self.index) if isinstance(start, int) else start, self.lanes)


def run(start: Any, lanes: int) -> Any:
    """Return the index of ``lanes`` neighbours."""
    return start if lanes == 1 else tirx.Ramp(start, tirx.const(1, start.ty.dtype), lanes)


def combine(matrix: Matrix, load: Load, keep: Keep, spare: Vectors) -> list[Any]:
    """Return the statements of ``keep(a, Σ matrix[a, i] · load(i))`` for every row."""
    if _pairs([*zip(*matrix, strict=True)]):
        return _by_columns(matrix, load, keep, spare)
    return _by_rows(matrix, load, keep, spare)


def _by_columns(matrix: Matrix, load: Load, keep: Keep, spare: Vectors) -> list[Any]:
    """Rows over sums and differences of the inputs that belong to x and -x."""
    pairs = _pairs([*zip(*matrix, strict=True)])
    steps = []
    for c in pairs:
        steps.append(spare.store(c, load(c) + load(c + 1)))
        steps.append(spare.store(c + 1, load(c) - load(c + 1)))
    second = {c + 1 for c in pairs}
    for a, row in enumerate(matrix):
        terms = []
        for i, factor in enumerate(row):
            if i in pairs:
                terms.append((factor, spare.load(i if factor == row[i + 1] else i + 1)))
            elif i not in second:
                terms.append((factor, load(i)))
        steps.append(keep(a, _sum(terms)))
    return steps


def _by_rows(matrix: Matrix, load: Load, keep: Keep, spare: Vectors) -> list[Any]:
    """Two rows at a time: what they agree in, plus and minus what they do not."""
    pairs = _pairs(matrix)
    steps = []
    for a, row in enumerate(matrix):
        if a in pairs:
            other = matrix[a + 1]
            agreed = [(f, load(i)) for i, f in enumerate(row) if f == other[i]]
            opposed = [(f, load(i)) for i, f in enumerate(row) if f != other[i]]
            steps.append(spare.store(0, _sum(agreed)))
            steps.append(spare.store(1, _sum(opposed)))
            steps.append(keep(a, spare.load(0) + spare.load(1)))
            steps.append(keep(a + 1, spare.load(0) - spare.load(1)))
        elif a - 1 not in pairs:
            steps.append(keep(a, _sum([(f, load(i)) for i, f in enumerate(row)])))
    return steps


def _pairs(rows: Matrix) -> list[int]:
    """Return the first of every two rows, from the second row on, that differ in signs alone."""
    found = [
        a
        for a in range(1, len(rows) - 1, 2)
        if all(abs(x) == abs(y) for x, y in zip(rows[a], rows[a + 1], strict=True))
    ]
    return found if 2 * len(found) == len(rows) - 2 else []


def _sum(terms: Sequence[tuple[float, Any]]) -> Any:
    """Return the sum of factors times vectors, positive ones first."""
    total = None
    for factor, value in sorted((t for t in terms if t[0]), key=lambda t: t[0] < 0):
        dtype = value.ty.dtype
        size = abs(factor)
        term = value if size == 1 else value * _splat(size, dtype)
        if total is None:
            total = term if factor > 0 else _splat(0.0, dtype) - term
        else:
            total = total + term if factor > 0 else total - term
    assert total is not None, "no row of these matrices is zero"
    return total


def _splat(value: float, dtype: Any) -> Any:
    return tirx.const(value, str(dtype))
