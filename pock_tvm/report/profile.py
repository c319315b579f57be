"""Where the time of a training step goes: per kernel, beside what the machine could do.

The roofline of a call is the time of its arithmetic at the measured peak, or of its bytes at the
measured bandwidth (of the cache where they fit, else of memory), whichever is longer (Williams et
al. 2009). Every tensor is counted once as read or written, wherever it lies: operands that the call
before has left in the cache can make a call faster than its roofline.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from pock_tvm.artifact.profiler import Timings

CACHE_BYTES = 512 * 1024
"""Calls that touch fewer bytes are measured against the cache."""


@dataclass(frozen=True)
class CallProfile:
    """One kernel call of the step."""

    index: int
    kernel: str
    layer: str
    """Module whose parameter it reads or writes, or that of the call that it follows."""
    ns: float
    """Median over the steps."""
    flops: int
    moved_bytes: int
    roofline_ns: float


@dataclass(frozen=True)
class KernelProfile:
    """All calls of one kernel."""

    kernel: str
    calls: int
    ms: float
    share: float
    """Of the time of all kernels."""
    gflop_per_s: float
    gbyte_per_s: float
    roofline: float
    """Share of the roofline that is reached."""
    layers: tuple[str, ...]


def profile_calls(
    plan: Mapping[str, Any], timings: Timings, threads: int, parameters: Sequence[str]
) -> list[CallProfile]:
    """Put measured times beside what each call of ``plan["calls"]`` does."""
    tensors = {t["name"]: t for t in plan["tensors"]}
    known = set(parameters)
    layer_of: dict[str, str] = {}
    found = []
    for index, (call, ns) in enumerate(zip(plan["calls"], timings.calls_ns, strict=True)):
        names = dict.fromkeys((*call["reads"], *call["writes"]))
        owned = [name for name in names if name in known]
        layer = owned[0].rpartition(".")[0] if owned else ""
        before = (layer_of[name] for name in call["reads"] if name in layer_of)
        layer = layer or next(before, "")
        layer_of.update((name, layer) for name in call["writes"] if name not in known)
        moved = sum(int(tensors[name]["bytes"]) for name in names)
        found.append(
            CallProfile(
                index=index,
                kernel=str(call["kernel"]),
                layer=layer,
                ns=median(ns),
                flops=int(call["flops"]),
                moved_bytes=moved,
                roofline_ns=_roofline_ns(int(call["flops"]), moved, timings, threads),
            )
        )
    return found


def _roofline_ns(flops: int, moved: int, timings: Timings, threads: int) -> float:
    in_cache = moved <= CACHE_BYTES * threads
    bandwidth = timings.cache_bytes_per_s * threads if in_cache else timings.memory_bytes_per_s
    return 1e9 * max(flops / (timings.flops_per_s * threads), moved / bandwidth)


def profile_kernels(calls: Sequence[CallProfile]) -> list[KernelProfile]:
    """Sum the calls of each kernel, the slowest first."""
    whole = sum(call.ns for call in calls)
    by_kernel: dict[str, list[CallProfile]] = {}
    for call in calls:
        by_kernel.setdefault(call.kernel, []).append(call)
    rows = []
    for kernel, its in by_kernel.items():
        ns = sum(call.ns for call in its)
        rows.append(
            KernelProfile(
                kernel=kernel,
                calls=len(its),
                ms=ns / 1e6,
                share=ns / whole,
                gflop_per_s=sum(call.flops for call in its) / ns,
                gbyte_per_s=sum(call.moved_bytes for call in its) / ns,
                roofline=sum(call.roofline_ns for call in its) / ns,
                layers=tuple(dict.fromkeys(call.layer for call in its if call.layer)),
            )
        )
    return sorted(rows, key=lambda row: -row.ms)


def trace_events(calls: Sequence[CallProfile]) -> dict[str, Any]:
    """Return the step as a trace that chrome://tracing and Perfetto open."""
    events, clock = [], 0.0
    for call in calls:
        events.append(
            {
                "name": call.kernel,
                "cat": call.layer or "step",
                "ph": "X",
                "ts": clock / 1e3,
                "dur": call.ns / 1e3,
                "pid": 1,
                "tid": 1,
                "args": {
                    "layer": call.layer,
                    "flops": call.flops,
                    "bytes": call.moved_bytes,
                    "roofline": round(call.roofline_ns / call.ns, 4) if call.ns else None,
                },
            }
        )
        clock += call.ns
    return {"traceEvents": events, "displayTimeUnit": "ms"}
