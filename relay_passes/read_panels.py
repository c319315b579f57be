"""Let a kernel read one of its parameters as panels of columns.

Before:  y[i, j] += x[i, k] * w[k, j]
After:   y[i, j] += x[i, k] * w[j // 32, k, j % 32]

The parameter's last axis is cut in pieces of ``width``, the number of the piece going first. See
``schedules/cpu/stored_panels.py`` for what that is good for.
"""

from typing import Any

from tvm import s_tir, tirx


def read_panels(func: tirx.PrimFunc, position: int, width: int) -> tirx.PrimFunc:
    """Return ``func`` with parameter ``position`` of shape [columns / width, …, width].

    Args:
        func: kernel, not yet scheduled.
        position: of a parameter that it reads only, and whose last axis ``width`` divides.
        width: columns of a panel.
    """
    sch = s_tir.Schedule(func)
    buffer = func.params[position]
    for rv in sch.get_child_blocks(sch.get_sblock("root")):
        for index, region in enumerate(sch.get(rv).reads):
            if region.source.same_as(buffer):
                sch.transform_layout(rv, ("read", index), lambda *i: _place(i, width))
                return sch.mod["main"]
    return func


def _place(index: tuple[Any, ...], width: int) -> list[Any]:
    *outer, column = index
    return [column // width, *outer, column % width]
