"""Which inputs of a kernel its output may be written over, element by element."""

from tvm import tirx

from pock_tvm.schedules.cpu.kernels import read_stages, resolve
from pock_tvm.schedules.cpu.stages import extent, has_stages, is_parameter, loads


def overwritable_inputs(func: tirx.PrimFunc) -> tuple[int, ...]:
    """Return the positions of the parameters whose memory the only output may take.

    ``y[i, j] = max(x[i, j] + b[j], 0)`` may overwrite ``x``: a point of it is read for the same
    point of ``y`` and for nothing else. That holds for kernels that the rule ``elementwise``
    schedules (one output, every stage injective, nothing kept between points), for these alone.
    """
    if not has_stages(func):
        return ()
    nests = read_stages(func)
    outputs = [s for s in nests if s.is_injective and is_parameter(func, s.output)]
    if len(outputs) != 1 or not all(s.is_injective for s in nests):
        return ()
    (output,) = outputs
    value = resolve(output.block.body.value, [s for s in nests if s is not output])
    shape = [extent(v) for v in output.spatial]
    read = loads(value)
    found = []
    for position, parameter in enumerate(func.params):
        mine = [load for load in read if load.source.same_as(parameter)]
        if (
            mine
            and parameter.ty.dtype == output.output.ty.dtype
            and [int(d) for d in mine[0].source.shape] == shape
            and all(
                index.same_as(axis.var)
                for load in mine
                for index, axis in zip(load.indices, output.spatial, strict=True)
            )
        ):
            found.append(position)
    return tuple(found)
