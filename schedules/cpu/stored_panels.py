"""Which frozen weights are better stored as the panels that a kernel would pack them into.

    w[…, columns]  ->  panels[columns / width, …, width]

A weight of a product with few rows is packed in every step for little work: copying it costs as
much as reading it, of a 1x1 convolution 2048 to 512 at 7² a third of the time. A weight that stands
in memory as panels is read in one stretch, with no copy and no workspace. Gains on Zen 5, one core,
float32, weights in memory (GFLOP/s): 1x1 2048 to 512 at 7² 149 -> 213, 3x3 512 to 512 at 7²
144 -> 184, 1x1 1024 to 256 at 14² 195 -> 220, a linear layer 768 to 3072 with 128 rows 198 -> 232.
Data gradients, which pack the transposed weight from panels as well as from rows, lose nothing.
With more rows the panel is packed once for all tasks, or a 3x3 window does so much with it that
there is nothing to gain: 3x3 256 to 256 at 14² reads 199 from rows and 189 from panels.
"""

from tvm import ir, s_tir, tirx

from pock_tvm.schedules.cpu.blocking import block
from pock_tvm.schedules.cpu.contraction import Contraction, read_contraction
from pock_tvm.schedules.cpu.tiles import panel_width
from pock_tvm.targets import TargetSpec

_ROWS_OF_WINDOWS = 64
"""Most rows of a product with several taps for which panels are worth it."""


def right_operand(func: tirx.PrimFunc, position: int, spec: TargetSpec) -> Contraction | None:
    """Return the contraction whose right operand is parameter ``position`` itself.

    None where the kernel is none, or does more with the parameter than packing it.
    """
    c = read_contraction(s_tir.Schedule(func), spec)
    if c is None or not isinstance(c.right, ir.TensorLoad):
        return None
    return c if c.right.source.same_as(func.params[position]) else None


def wanted_panel_width(c: Contraction, spec: TargetSpec) -> int | None:
    """Return of how many columns a kernel wants panels of its right operand.

    None where it is no faster with them, or where no width divides the columns.
    """
    if not c.right_is_plain or spec.vector_lanes(c.dtype) == 1:
        return None
    (column,) = c.columns.members
    if not c.right.indices[-1].same_as(column.var):
        return None
    blocking = block(c, spec)
    has_taps = len(c.right.indices) > 2 and any(int(e) > 1 for e in c.right.source.shape[:-2])
    rows = c.outer_rows.extent * c.rows.extent
    if not blocking.packs or blocking.shared or (has_taps and rows > _ROWS_OF_WINDOWS):
        return None
    return panel_width(c.rows.extent, column.extent, c.dtype, spec)
