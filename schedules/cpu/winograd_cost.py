"""What a 3x3 convolution costs directly and by Winograd's tiles, in cycles of one core.

By tiles: multiply-adds over whole tiles, the transforms' instructions, and the bytes of the
transformed weight, which nothing hides. Measured on one Zen 5 core, caches flushed, µs, forward and
data gradient, direct / F(2x2) / F(4x4):

    56², 64 channels    1174 / 843 / 553      1153 / 958 / 934
    28², 128            1301 / 739 / 634      1349 / 1072 / 812
    14², 256            1267 / 743 / 846      1273 / 1070 / 2955
     7², 512            1713 / 1438 / 1237    1750 / 5151 / 5109

Direct at 7² reads stored panels since (184 GFLOP/s in another run, 1257 µs), so that tiles no
longer win there. A data gradient packs the transposed weight anew for every block of tiles, which
it loses by.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from pock_tvm.schedules.cpu.tiles import core_of
from pock_tvm.targets import TargetSpec

GROUPS = (64, 48, 32, 16)
"""Output channels that are multiplied together, the widest that divides them first."""

_FLOPS_PER_LANE = 2.64
"""In a cycle: 180 GFLOP/s of 16 lanes at 4.2 GHz, for either kind of product."""

_BYTES = 4
"""Of a transformed weight that come from memory in a cycle."""

_INSTRUCTION = 2.5
"""Cycles of an instruction of a transform, which loads and stores a vector every other time."""

_PACKED = 1.3
"""Cycles to transpose an element of the weight into a panel."""

Matrix = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Convolution:
    """A 3x3 convolution of stride 1, or its data gradient."""

    shape: tuple[int, int, int, int]
    """NHWC shape of the result."""
    depth: int
    """Channels that are summed over."""
    gradient: bool


def direct_cycles(c: Convolution, spec: TargetSpec) -> float:
    """Return the cycles of the convolution as it is defined."""
    batch, rows, columns, channels = c.shape
    return _multiply_cycles(9 * batch * rows * columns * c.depth * channels, spec)


def winograd_cycles(c: Convolution, data: Matrix, inverse: Matrix, spec: TargetSpec) -> float:
    """Return the cycles by tiles.

    Args:
        c: what is computed.
        data: Bᵀ.
        inverse: Aᵀ, one row for each row of a tile.
        spec: machine.
    """
    batch, rows, columns, channels = c.shape
    m, products, lanes = len(inverse), len(data) ** 2, spec.vector_lanes()
    tiles = batch * ceil(rows / m) * ceil(columns / m)
    transforms = _instructions(data) * ceil(c.depth / lanes)
    transforms += _instructions(inverse) * ceil(channels / lanes)
    weight = products * c.depth * channels
    cycles = _multiply_cycles(tiles * weight, spec) + weight * 4 / _BYTES
    cycles += tiles * transforms * _INSTRUCTION
    if c.gradient:
        group = next((g for g in GROUPS if channels % g == 0), channels)
        cycles += _PACKED * weight * blocks_of(tiles, products, c.depth, channels, group, spec)
    return cycles


def blocks_of(
    tiles: int, products: int, depth: int, channels: int, group: int, spec: TargetSpec
) -> int:
    """Return in how many blocks tiles are taken, each of which reads all of the weight.

    A block's tiles and a group of their sums stay in the level-2 cache; where the weight does not
    come out of it again for the next block, there is one.
    """
    panel_bytes = core_of(spec).panel_bytes(spec)
    if products * depth * channels * 4 > 2 * panel_bytes:
        return 1
    return ceil(tiles / max(1, panel_bytes // (products * (depth + group) * 4)))


def _multiply_cycles(multiplications: int, spec: TargetSpec) -> float:
    return 2 * multiplications / (_FLOPS_PER_LANE * spec.vector_lanes())


def _instructions(matrix: Matrix) -> int:
    """Return the instructions that apply ``matrix`` to both sides of a square of vectors."""
    rows, side = len(matrix), len(matrix[0])
    entries = sum(bool(entry) for row in matrix for entry in row)
    return (side + rows) * entries + side**2 + rows**2
