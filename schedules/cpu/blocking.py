"""How the work of a contraction is cut: register tiles, panels, blocks of the sum, tasks."""

from dataclasses import dataclass
from math import ceil, prod

from tvm import ir

from pock_tvm.schedules.cpu.contraction import Axes, Contraction, strides
from pock_tvm.schedules.cpu.tiles import RegisterTile, core_of, register_tile
from pock_tvm.targets import TargetSpec

_PARALLEL_WORK = 1 << 17
"""Multiply-adds below which waking threads costs more than it saves."""

_PARTS = 8
"""Parts of a long sum, one task each: a number of its own, so that no sum depends on the cores."""

_PARTS_BYTES = 512 * 1024
"""Most memory for the parts' results."""


_UPDATED_BYTES = 1 << 16
"""Bytes of a result from which on what it updates is taken to be in memory, not in a cache."""

_WAITED = 32
"""Products that last as long as memory takes to answer."""

_PREFETCHED = 256
"""Products of a sum from which on the next panel is asked for ahead of time."""


@dataclass(frozen=True)
class Sum:
    """Blocks of the reduced axes: ``outer`` one by one, ``cut`` in chunks, ``inner`` whole."""

    outer: tuple[Axes, ...]
    cut: Axes | None
    chunk: int
    inner: tuple[Axes, ...]

    @property
    def cuts(self) -> int:
        """Return the chunks of ``cut``."""
        return ceil(self.cut.extent / self.chunk) if self.cut else 1

    @property
    def blocks(self) -> int:
        """Return the number of blocks."""
        return prod(g.extent for g in self.outer) * self.cuts

    @property
    def length(self) -> int:
        """Return the products in a full block."""
        return self.chunk * prod(g.extent for g in self.inner)

    @classmethod
    def cut_to(cls, groups: tuple[Axes, ...], limit: int) -> "Sum":
        """Cut the innermost possible axis so that a block has at most ``limit`` products."""
        inner = 1
        for i in range(len(groups) - 1, -1, -1):
            extent = groups[i].extent
            if inner * extent > limit:
                count = ceil(extent / max(1, limit // inner))
                return cls(groups[:i], groups[i], _rounded(ceil(extent / count)), groups[i + 1 :])
            inner *= extent
        return cls((), None, 1, groups)


def _rounded(count: int) -> int:
    """Round a long block up to whole vectors of any machine."""
    return count if count < 64 else ceil(count / 16) * 16


@dataclass(frozen=True)
class Blocking:
    """The numbers of one nest.

    ``width`` columns make a tile, ``group`` tiles a panel; a task is one panel against ``chunk``
    units of rows. A unit is a register tile, or all rows at one point of the outer rows.
    """

    tile: RegisterTile
    width: int
    group: int
    chunk: int
    units: int
    sum: Sum
    packs: bool
    """Copy the right operand to the panel before use."""
    shared: bool
    """One panel of all columns for all tasks, packed before them."""
    copies_left: str
    """Keep the left rows of a tile in cache order: "rows" or "sum" outermost, or not ("")."""
    parallel: bool
    prefetches: bool = False
    """Ask for the next panel's part of the right operand while this panel is multiplied."""
    prefetches_epilogue: bool = False
    """Ask for what a tile updates while its sum runs."""
    parts: int = 1
    """Tasks that share the blocks of the sum, their results added in order after them."""


def block(c: Contraction, spec: TargetSpec, *, packed_bytes: int | None = None) -> Blocking:
    """Cut a contraction for a machine.

    Args:
        c: the contraction.
        spec: the machine.
        packed_bytes: bytes of an element in a panel, where the operands change their type on the
            way there, so that there has to be one; None where they do not.
    """
    core = core_of(spec)
    tile = register_tile(c.rows.extent, c.columns.extent, c.dtype, spec)
    itemsize = packed_bytes or int(c.dtype[-2:]) // 8
    width = min(tile.width, c.columns.extent)
    tiles = ceil(c.columns.extent / width)
    rows = c.outer_rows.extent * c.rows.extent
    products = prod(g.extent for g in c.reduced)
    units = c.outer_rows.extent if c.outer_rows.extent > 1 else max(1, c.rows.extent // tile.rows)
    unit_rows = rows / units
    packs = (
        packed_bytes is not None or not c.right_is_plain or (rows >= 4 * tile.rows and tiles > 1)
    )
    chunk = min(units, max(1, round(512 / unit_rows)))
    panel = products * tiles * width * itemsize
    shared = packs and c.batch.extent == 1 and chunk < units and panel <= core.shared_panel_bytes
    stored = not packs and c.right_is_stored_panels
    in_memory = panel * c.batch.members[-1].extent if stored else panel
    prefetches = (
        packed_bytes is None
        and (stored or (packs and not shared))
        and _is_large(c, in_memory, spec)
    )
    group = tiles if shared else min(tiles, max(1, core.run_bytes // (width * itemsize)))
    if prefetches:
        group = 1
    work = rows * c.columns.extent * products * c.batch.extent
    parallel = work >= _PARALLEL_WORK
    if not packs and c.right_is_plain and _is_long_sum(c, spec, itemsize):
        return _in_parts(c, spec, tile, width, itemsize, parallel=parallel)

    def tasks() -> int:
        return c.batch.extent * ceil(units / chunk) * ceil(tiles / group)

    while parallel and not shared and group > 1 and tasks() < 2 * spec.cores:
        group = ceil(group / 2)
    least = 1 if shared or not packs else ceil(4 * tile.rows / unit_rows)
    while parallel and chunk > least and tasks() < 2 * spec.cores:
        chunk = max(least, ceil(chunk / 2))
    limit = core.panel_bytes(spec) // (group * width * itemsize)
    if prefetches and packs:
        limit = max(_PREFETCHED, limit // 2)  # the next panel's part is in the cache as well
    # One or two tiles read nothing again, and LLVM would keep their partial sums in registers from
    # block to block, which there are too few of.
    if shared or (not packs and group * min(chunk, units) <= 2 and c.outer_rows.extent == 1):
        limit = products
    return Blocking(
        tile=tile,
        width=width,
        group=group,
        chunk=ceil(units / ceil(units / chunk)),
        units=units,
        sum=Sum.cut_to(c.reduced, limit),
        packs=packs,
        shared=shared,
        copies_left=_left_copy(c, group, itemsize),
        parallel=parallel,
        prefetches=prefetches,
        prefetches_epilogue=core.prefetches
        and rows * c.columns.extent * itemsize >= _UPDATED_BYTES
        and products >= _WAITED
        and any(store.reads(c) for store in c.stores),
    )


def _is_large(c: Contraction, panel: int, spec: TargetSpec) -> bool:
    """Tell whether the right operand comes from memory, for a sum that is long enough to wait."""
    return (
        core_of(spec).prefetches
        and panel > core_of(spec).panel_bytes(spec)
        and isinstance(c.right, ir.TensorLoad)
        and prod(g.extent for g in c.reduced) >= _PREFETCHED
        and c.reduced[-1].extent >= 32
    )


def _in_parts(
    c: Contraction,
    spec: TargetSpec,
    tile: RegisterTile,
    width: int,
    itemsize: int,
    *,
    parallel: bool,
) -> Blocking:
    """Let each task sum some of the products, for the whole result: operands are read once."""
    tiles = ceil(c.columns.extent / width)
    units = max(1, c.rows.extent // tile.rows)
    products = prod(g.extent for g in c.reduced)
    limit = core_of(spec).panel_bytes(spec) // ((c.rows.extent + tiles * width) * itemsize)
    blocks = Sum.cut_to(c.reduced, min(limit, products // _PARTS))
    return Blocking(
        tile=tile,
        width=width,
        group=tiles,
        chunk=units,
        units=units,
        sum=blocks,
        packs=False,
        shared=False,
        copies_left=_left_copy(c, tiles, itemsize),
        parallel=parallel,
        parts=ceil(blocks.blocks / ceil(blocks.blocks / _PARTS)),  # none of them empty
    )


def _is_long_sum(c: Contraction, spec: TargetSpec, itemsize: int) -> bool:
    """Tell whether a small result sums over operands too large for the cache.

    Tasks that share the result would each read both operands from memory.
    """
    rows, columns = c.rows.extent, c.columns.extent
    products = prod(g.extent for g in c.reduced)
    return (
        c.batch.extent == 1
        and c.outer_rows.extent == 1
        and products >= 64 * max(rows, columns)
        and products * (rows + columns) * itemsize > 4 * core_of(spec).panel_bytes(spec)
        and _PARTS * rows * columns * itemsize <= _PARTS_BYTES
    )


def _left_copy(c: Contraction, group: int, itemsize: int) -> str:
    """Copy the left operand where its rows share cache sets, or where it has to be computed."""
    if not c.reduced or not c.rows.members:
        return ""
    walk = strides(c.left, [c.rows.members[-1], c.reduced[-1].members[-1]])
    if not isinstance(c.left, ir.TensorLoad):
        runs = walk is not None and walk[0][1] == 1 and c.reduced[-1].extent >= 16
        return "rows" if group > 1 or runs else ""
    if walk is None or group == 1:
        return ""
    (row, product) = walk[0]
    if product == 1:
        return "rows" if row * itemsize % 4096 == 0 else ""
    return "sum" if row == 1 and product * itemsize % 4096 == 0 else ""
