"""What a tuner may decide about a contraction, and which decisions are legal.

``block`` decides by rules; a ``Decision`` says the same in a few numbers, so that one that was
measured can take the place of the rules. Sums keep their order, bit for bit, unless they are cut in
parts.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from math import ceil, prod
from typing import Any

from tvm import ir

from pock_tvm.schedules.cpu.blocking import Blocking, Sum, block
from pock_tvm.schedules.cpu.contraction import Contraction, strides
from pock_tvm.schedules.cpu.tiles import RegisterTile, core_of
from pock_tvm.targets import TargetSpec

MOST_ROWS = 16
"""Rows of the highest register tile."""

_MOST_PARTIAL_BYTES = 1 << 20
"""Workspace for sums that rest between two blocks."""

_LONG_ENOUGH = 256
"""Products of a sum in which prefetching finds its place."""


@dataclass(frozen=True)
class Decision:
    """The numbers of ``Blocking`` that are free."""

    rows: int
    """Of a register tile."""
    vectors: int
    """Of a register tile."""
    group: int
    """Column tiles of a panel."""
    chunk: int
    """Units of rows in a task."""
    products: int
    """Most products in a block of the sum."""
    packs: bool
    shared: bool
    copies_left: str
    prefetches: bool
    prefetches_epilogue: bool
    parts: int

    @classmethod
    def of(cls, b: Blocking, c: Contraction) -> "Decision":
        """Return what a blocking decides."""
        whole = prod(g.extent for g in c.reduced)
        return cls(
            rows=b.tile.rows,
            vectors=b.tile.vectors,
            group=b.group,
            chunk=b.chunk,
            products=b.sum.length if b.sum.blocks > 1 else whole,
            packs=b.packs,
            shared=b.shared,
            copies_left=b.copies_left,
            prefetches=b.prefetches,
            prefetches_epilogue=b.prefetches_epilogue,
            parts=b.parts,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


def read_decision(document: Mapping[str, Any]) -> Decision:
    """Read ``as_dict`` back; what it decides about is not looked at.

    Raises:
        ValueError: a field is missing, unknown or of another type.
    """
    types = {f.name: f.type for f in fields(Decision)}
    for name in (*types, *document):
        if name not in types:
            raise ValueError(f"{str(name)[:40]!r} is nothing that a decision decides")
        if name not in document:
            raise ValueError(f"{name} is missing")
    for name, kind in types.items():
        value = document[name]
        if type(value) is not kind:
            raise ValueError(f"{name} is {str(value)[:40]!r}, no {kind.__name__}")  # type: ignore[union-attr]
        if kind is int and not 1 <= value < 1 << 31:
            raise ValueError(f"{name} is {value}, out of any range")
    return Decision(**document)


def blocking_of(decision: Decision, c: Contraction, spec: TargetSpec) -> Blocking:
    """Return the blocking that a legal decision means.

    Raises:
        ValueError: the decision is not legal for this contraction on this machine.
    """
    trouble = illegality(decision, c, spec)
    if trouble:
        raise ValueError(trouble)
    return _blocking(decision, c, spec)


def illegality(d: Decision, c: Contraction, spec: TargetSpec) -> str | None:
    """Tell why a contraction cannot be cut as decided; None where it can."""
    core, lanes = core_of(spec), spec.vector_lanes(c.dtype)
    highest = min(c.rows.extent, MOST_ROWS, (core.registers - d.vectors - 1) // d.vectors)
    if d.vectors > min(core.max_vectors, ceil(c.columns.extent / lanes)) or d.rows > highest:
        return f"a tile of {d.rows} rows by {d.vectors} vectors does not fit"
    b = _blocking(d, c, spec)
    tiles = ceil(c.columns.extent / b.width)
    products = prod(g.extent for g in c.reduced)
    itemsize = int(c.dtype[-2:]) // 8
    panel = b.group * b.sum.length * b.width * itemsize if b.packs else 0
    most = 2 * (core.shared_panel_bytes if b.shared else core.panel_bytes(spec))
    chunk_rows = b.chunk * (c.rows.extent if c.outer_rows.extent > 1 else b.tile.rows)
    resting = d.parts * (chunk_rows + b.tile.rows) * b.group * b.width * itemsize
    walk = _left_walk(c)
    whole = d.group == tiles and d.chunk == b.units
    rules = {
        f"{tiles} column tiles make no panel of {d.group}": d.group <= tiles,
        f"{b.units} units make no task of {d.chunk}": d.chunk <= b.units,
        f"the sum has no {d.products} products": d.products <= products,
        "the right operand has to be packed": d.packs or c.right_is_plain,
        f"a panel of {panel} bytes is too large": panel <= most,
        "a shared panel holds all columns and the whole sum": not d.shared
        or (d.packs and c.batch.extent == 1 and d.group == tiles and b.sum.blocks == 1),
        f"there is no copy {d.copies_left[:20]!r} of the left operand": d.copies_left == ""
        or (d.copies_left == "rows" and bool(c.reduced and c.rows.members))
        or (d.copies_left == "sum" and walk is not None and walk[0] == 1),
        "there is nothing to prefetch for the next panel": not d.prefetches
        or (_follow_one_another(d, c) and _can_prefetch(c, products)),
        "the epilogue reads nothing": not d.prefetches_epilogue
        or any(store.reads(c) for store in c.stores),
        "a sum in parts takes the whole result and nothing packed": d.parts == 1
        or (whole and not d.packs and c.batch.extent == c.outer_rows.extent == 1),
        f"{b.sum.blocks} blocks make no {d.parts} parts": d.parts == 1
        or d.parts == parts_of(b.sum.blocks, d.parts),
        f"{resting} bytes of sums between blocks are too many": b.sum.blocks == 1
        or resting <= _MOST_PARTIAL_BYTES,
    }
    return next((trouble for trouble, holds in rules.items() if not holds), None)


def parts_of(blocks: int, wanted: int) -> int:
    """Return the number of parts, none of them empty, nearest to what is wanted."""
    return ceil(blocks / ceil(blocks / wanted))


def problem_of(c: Contraction, spec: TargetSpec) -> str:
    """Return what two contractions have in common that the same decision is best for."""
    left = "computed" if _left_walk(c) is None else ",".join(map(str, _left_walk(c) or ()))
    right = "computed"
    if isinstance(c.right, ir.TensorLoad):
        right = "transposed" if c.right_is_transposed else "scattered"
        right = "plain" if c.right_is_plain else right
    reads = sum(len(store.reads(c)) for store in c.stores)
    words = (
        f"{c.dtype} batch={c.batch.extent} rows={c.outer_rows.extent}*{c.rows.extent}",
        f"columns={c.columns.extent} sum={'*'.join(str(g.extent) for g in c.reduced) or 1}",
        f"left={left} right={right}{'' if c.guard is None else ' guarded'}",
        f"stores={len(c.stores)} reads={reads} cores={spec.cores}",
    )
    return " ".join(words)


def rules_decision(c: Contraction, spec: TargetSpec) -> Decision:
    """Return what the rules decide."""
    return Decision.of(block(c, spec), c)


def _blocking(d: Decision, c: Contraction, spec: TargetSpec) -> Blocking:
    lanes = spec.vector_lanes(c.dtype)
    tile = RegisterTile(d.rows, d.vectors, lanes)
    units = c.outer_rows.extent if c.outer_rows.extent > 1 else max(1, c.rows.extent // d.rows)
    made = Blocking(
        tile=tile,
        width=min(tile.width, c.columns.extent),
        group=d.group,
        chunk=d.chunk,
        units=units,
        sum=Sum.cut_to(c.reduced, d.products),
        packs=d.packs,
        shared=d.shared,
        copies_left=d.copies_left,
        parallel=block(c, spec).parallel,
        prefetches=d.prefetches,
        prefetches_epilogue=d.prefetches_epilogue,
        parts=d.parts,
    )
    return replace(made, chunk=min(made.chunk, units))


def _left_walk(c: Contraction) -> list[int] | None:
    """Return how far apart neighbouring rows and products of the left operand are."""
    if not isinstance(c.left, ir.TensorLoad) or not c.reduced or not c.rows.members:
        return None
    walk = strides(c.left, [c.rows.members[-1], c.reduced[-1].members[-1]])
    return None if walk is None else walk[0]


def _follow_one_another(d: Decision, c: Contraction) -> bool:
    """Tell whether each tile has a panel of its own, packed or stored."""
    if not d.packs:
        return c.right_is_stored_panels
    return not d.shared and d.group == 1


def _can_prefetch(c: Contraction, products: int) -> bool:
    return (
        isinstance(c.right, ir.TensorLoad)
        and products >= _LONG_ENOUGH
        and c.reduced[-1].extent >= 32
    )
