"""Decisions worth a trial: neighbours of one that is known to be good."""

from dataclasses import replace
from math import ceil, prod
from random import Random
from typing import Any

from pock_tvm.schedules.cpu.contraction import Contraction
from pock_tvm.schedules.cpu.decision import MOST_ROWS, Decision, illegality, parts_of
from pock_tvm.schedules.cpu.tiles import core_of
from pock_tvm.targets import TargetSpec

_TRIES = 200
_LEAST_PRODUCTS = 32
_PARTS = (1, 2, 4, 8, 16)
_GROUPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


def propose(random: Random, base: Decision, c: Contraction, spec: TargetSpec) -> Decision | None:
    """Return a legal decision that differs from ``base`` in one number or a few.

    None where none was found: a contraction of a few elements leaves nothing to decide.
    """
    choices = _choices(c, spec)
    for _ in range(_TRIES):
        count = random.choice((1, 1, 2, 2, 3))
        names = random.sample(sorted(choices), count)
        changed = replace(base, **{name: random.choice(choices[name]) for name in names})
        fitted = _fitted(changed, c, spec)
        if fitted != base and illegality(fitted, c, spec) is None:
            return fitted
    return None


def _choices(c: Contraction, spec: TargetSpec) -> dict[str, list[Any]]:
    core, lanes = core_of(spec), spec.vector_lanes(c.dtype)
    vectors = min(core.max_vectors, ceil(c.columns.extent / lanes))
    products = prod(g.extent for g in c.reduced)
    units = c.outer_rows.extent if c.outer_rows.extent > 1 else c.rows.extent
    both = [False, True]
    return {
        "rows": list(range(1, min(MOST_ROWS, c.rows.extent) + 1)),
        "vectors": list(range(1, vectors + 1)),
        "group": list(_GROUPS),
        "chunk": _halves(units, 1),
        "products": _halves(products, _LEAST_PRODUCTS),
        "packs": both,
        "shared": both,
        "copies_left": ["", "rows", "sum"],
        "prefetches": both,
        "prefetches_epilogue": both,
        "parts": list(_PARTS),
    }


def _halves(whole: int, least: int) -> list[int]:
    """Return the whole, its third, half of each, and so on."""
    found = {whole}
    for size in (whole, ceil(whole / 3)):
        while size > least:
            found.add(size)
            size = ceil(size / 2)
    return sorted(found)


def _fitted(d: Decision, c: Contraction, spec: TargetSpec) -> Decision:
    """Bring the numbers that depend on others within what those leave."""
    width = min(d.vectors * spec.vector_lanes(c.dtype), c.columns.extent)
    tiles = ceil(c.columns.extent / width)
    units = c.outer_rows.extent if c.outer_rows.extent > 1 else max(1, c.rows.extent // d.rows)
    products = prod(g.extent for g in c.reduced)
    if d.parts > 1:
        d = replace(d, packs=False, shared=False, prefetches=False, group=tiles, chunk=units)
        d = replace(d, products=min(d.products, max(1, products // d.parts)))
        blocks = ceil(products / d.products)
        return replace(d, parts=parts_of(blocks, d.parts))
    if d.shared:
        d = replace(d, packs=True, prefetches=False, group=tiles, products=products)
    if d.prefetches and not (c.right_is_stored_panels and not d.packs):
        d = replace(d, packs=True, group=1)
    return replace(d, group=min(d.group, tiles), chunk=min(d.chunk, units))
