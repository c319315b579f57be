"""Store frozen weights as panels where the kernels that read them are faster so.

What is planned stays as it is: a tensor in panels has as many bytes, and no kernel call moves.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from tvm import tirx

from pock_tvm.compilation.graphs import Graphs
from pock_tvm.compilation.plan import Plan
from pock_tvm.relay_passes.read_panels import read_panels
from pock_tvm.relay_passes.share_kernels import digest_of
from pock_tvm.relay_passes.step import KernelCall, Step
from pock_tvm.schedules.cpu.stored_panels import right_operand, wanted_panel_width
from pock_tvm.targets import TargetSpec

Reader = tuple[str, int]
"""A kernel, and which of its parameters."""


def store_panels(
    graphs: Graphs, kernels: Mapping[str, tirx.PrimFunc], plan: Plan, spec: TargetSpec
) -> tuple[Graphs, dict[str, tirx.PrimFunc], Plan]:
    """Return the graphs with some frozen weights in panels, their kernels, and the same plan."""
    widths = _widths(graphs, kernels, plan, spec)
    if not widths:
        return graphs, dict(kernels), plan
    made: dict[tuple[str, tuple[tuple[int, int], ...]], str] = {}
    used: dict[str, tirx.PrimFunc] = {}
    flops: dict[str, int] = {}

    def rewritten(call: KernelCall) -> KernelCall:
        stored = tuple(
            (position, widths[name]) for position, name in enumerate(call.reads) if name in widths
        )
        if (call.kernel, stored) not in made:
            func = kernels[call.kernel]
            name = call.kernel
            for position, width in stored:
                func = read_panels(func, position, width)
            if stored:
                name = f"{re.sub('_[0-9a-f]+$', '', name)}_{digest_of(func)[:8]}"
            made[call.kernel, stored] = name
            used[name], flops[name] = func, plan.flops[call.kernel]
        return replace(call, kernel=made[call.kernel, stored])

    def stored_step(step: Step) -> Step:
        tensors = {
            name: replace(t, shape=panels_shape(t.shape, widths[name])) if name in widths else t
            for name, t in step.tensors.items()
        }
        return replace(step, tensors=tensors, calls=tuple(rewritten(c) for c in step.calls))

    steps = [stored_step(step) for step in plan.steps]
    values = {
        name: as_panels(value, widths[name]) if name in widths else value
        for name, value in graphs.values.items()
    }
    return (
        replace(graphs, values=values, panels=widths),
        used,
        replace(plan, steps=steps, flops=flops),
    )


def panels_shape(shape: tuple[int, ...], width: int) -> tuple[int, ...]:
    """Return the shape of a weight in panels."""
    return (shape[-1] // width, *shape[:-1], width)


def as_panels(value: np.ndarray, width: int) -> np.ndarray:
    """Return a weight in panels."""
    cut = value.reshape(*value.shape[:-1], -1, width)
    return np.ascontiguousarray(np.moveaxis(cut, -2, 0))


def _widths(
    graphs: Graphs, kernels: Mapping[str, tirx.PrimFunc], plan: Plan, spec: TargetSpec
) -> dict[str, int]:
    """Return the columns of a panel for each weight that is to be stored so."""
    if spec.device is not None or spec.precision != "fp32":
        return {}
    widths: dict[str, int] = {}
    wanted: dict[Reader, int | None] = {}
    able: dict[Reader, bool] = {}
    for name, readers in _readers(graphs, plan.steps).items():
        for reader in readers:
            kernel, position = reader
            if reader not in able:
                contraction = right_operand(kernels[kernel], position, spec)
                able[reader] = contraction is not None
                wanted[reader] = wanted_panel_width(contraction, spec) if contraction else None
        found = [r for r in readers if wanted[r] is not None]
        if found and all(able[reader] for reader in readers):
            most = max(found, key=lambda reader: plan.flops[reader[0]])
            width = wanted[most]
            assert width is not None, "those without are left out"
            widths[name] = width
    return widths


def _readers(graphs: Graphs, steps: Iterable[Step]) -> dict[str, list[Reader]]:
    """Return who reads each frozen weight of two axes or more as a whole."""
    readers: dict[str, dict[Reader, None]] = defaultdict(dict)
    others: set[str] = set()
    for step in steps:
        for call in step.calls:
            for position, (name, shift) in enumerate(call.places[: len(call.reads)]):
                readers[name][call.kernel, position] = None
                if shift:
                    others.add(name)
            others.update(call.writes)
    return {
        name: list(found)
        for name, found in readers.items()
        if name not in others
        and graphs.regions.get(name) == "frozen"
        and name in graphs.values
        and graphs.values[name].ndim >= 2
        and graphs.values[name].dtype == np.float32
    }
