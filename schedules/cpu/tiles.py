"""Register tiles and cache blocks of the contraction kernels, by core.

A tile is ``rows`` x ``vectors`` accumulators that stay in registers while the sum runs. Which one
suits a shape follows from a count of cycles, so the table holds what a core can do, not tiles.
"""

import math
from dataclasses import dataclass

from pock_tvm.schedules.cpu.vectors import pieces
from pock_tvm.targets import TargetSpec

SQUARE = 8
"""Side of the squares that a transposed panel is packed by."""


@dataclass(frozen=True)
class Core:
    """What bounds a register tile on one core."""

    registers: int
    """Vector registers for accumulators, one row of the panel and one broadcast."""

    loads_per_fma: float
    """Loads (one row vector, or one broadcast) that issue while one multiply-add does."""

    latency: int
    """Independent multiply-adds that hide the latency of one."""

    max_vectors: int = 6
    """Widest tile, in vectors."""

    run_bytes: int = 512
    """What is read in one go from a large matrix, for the sake of pages and of the prefetcher."""

    shared_panel_bytes: int = 512 * 1024
    """Largest right operand that all tasks read from one panel."""

    level_2_bytes: int | None = None
    """Measured level-2 cache, where the target's number is a guess."""

    prefetches: bool = False
    """Whether asking for the next panel ahead of time was found to help."""

    def panel_bytes(self, spec: TargetSpec) -> int:
        """Return how large a panel may be: half of the level-2 cache."""
        return (self.level_2_bytes or spec.l2_bytes) // 2


CORES = {
    # benchmarks/kernels.py, one core: 8x48 reaches 105-116 GFLOP/s at 512³, 12x32 100-110.
    # With 14x2 accumulators LLVM spills (24->144 at 56²: 72 GFLOP/s), with 28 registers not (95).
    "znver4": Core(registers=28, loads_per_fma=2.0, latency=8, level_2_bytes=1 << 20),
    # On one Zen 5 core (271 GFLOP/s in registers): 8x48, too; see prefetch.py for the panels.
    "znver5": Core(28, loads_per_fma=1.0, latency=8, level_2_bytes=1 << 20, prefetches=True),
    "x86-64-v4": Core(registers=28, loads_per_fma=1.0, latency=8),
}


def core_of(spec: TargetSpec) -> Core:
    """Return the measured limits of a core, or limits derived from its vector unit."""
    if spec.core in CORES:
        return CORES[spec.core]
    # Without broadcasts from memory, the left elements of several rows want registers too: of 32,
    # LLVM spills none with 8x2 accumulators on AArch64, some in the tiles of 11 and 14 rows.
    registers = spec.vector_registers if spec.vector_bits > 128 else spec.vector_registers * 5 // 8
    return Core(registers, loads_per_fma=1.0, latency=8)


@dataclass(frozen=True)
class RegisterTile:
    """``rows`` rows of the result by ``vectors`` vectors of ``lanes`` columns."""

    rows: int
    vectors: int
    lanes: int

    @property
    def width(self) -> int:
        """Return the columns of a full tile."""
        return self.vectors * self.lanes


def register_tile(rows: int, columns: int, dtype: str, spec: TargetSpec) -> RegisterTile:
    """Choose the tile that covers ``rows`` x ``columns`` in the fewest cycles."""
    core, lanes = core_of(spec), spec.vector_lanes(dtype)
    best: tuple[tuple[float, int, int], RegisterTile] | None = None
    for vectors in range(1, min(core.max_vectors, math.ceil(columns / lanes)) + 1):
        most = (core.registers - vectors - 1) // vectors
        for height in range(1, min(rows, most, 16) + 1):
            tile = RegisterTile(height, vectors, lanes)
            left_over = bool(rows % height) + bool(columns % tile.width)
            key = (_cycles(tile, rows, columns, core), left_over, -height * vectors)
            if best is None or key < best[0]:
                best = key, tile
    assert best is not None, "a tile has at least one row and one vector"
    return best[1]


def panel_width(rows: int, columns: int, dtype: str, spec: TargetSpec) -> int | None:
    """Choose how many columns stored panels have; None where no width divides the columns.

    A transposed panel is packed from them in squares, which have to fit.
    """
    core, lanes = core_of(spec), spec.vector_lanes(dtype)
    best: tuple[float, int] | None = None
    for vectors in range(1, core.max_vectors + 1):
        width = vectors * lanes
        if columns % width or width % SQUARE or width == columns:
            continue
        cycles = (
            columns // width * _cycles(register_tile(rows, width, dtype, spec), rows, width, core)
        )
        if best is None or cycles < best[0]:
            best = cycles, width
    return None if best is None else best[1]


def _cycles(tile: RegisterTile, rows: int, columns: int, core: Core) -> float:
    def one(height: int, vectors: int) -> float:
        products = height * vectors
        return max(products, (height + vectors) / core.loads_per_fma, core.latency)

    full_rows, rest_rows = divmod(rows, tile.rows)
    full_columns, rest_columns = divmod(columns, tile.width)
    rest = len(pieces(rest_columns, tile.lanes))
    cost = full_rows * full_columns * one(tile.rows, tile.vectors)
    if rest:
        cost += full_rows * one(tile.rows, rest)
    if rest_rows:
        cost += full_columns * one(rest_rows, tile.vectors)
        if rest:
            cost += one(rest_rows, rest)
    return cost
