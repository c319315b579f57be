"""The byte counts of an artifact, by what they are for."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pock_tvm.cli.output import format_bytes

if TYPE_CHECKING:
    from pock_tvm.artifact.description import ArtifactDescription  # imports numpy


def memory_of(description: "ArtifactDescription") -> dict[str, int]:
    """Return the bytes of each class of memory that a session of the artifact takes."""
    regions = description.regions
    by_class = {
        "frozen_weights_bytes": 0,
        "trainable_weights_bytes": 0,
        "statistics_bytes": 0,
        "optimizer_bytes": 0,
        "constants_bytes": 0,
        "accumulators_bytes": 0,
        "counters_bytes": 0,
    }
    for tensor in description.tensors:
        if tensor.role == "weight":
            key = "trainable_weights_bytes" if tensor.trainable else "frozen_weights_bytes"
        elif tensor.region != "arena":
            plural = tensor.role in ("statistic", "constant", "counter", "accumulator")
            key = f"{tensor.role}s_bytes" if plural else f"{tensor.role}_bytes"
        else:
            continue
        by_class[key] += tensor.nbytes
    return {
        **by_class,
        "transient_bytes": regions.arena_bytes,
        "transient_lower_bound_bytes": regions.arena_lower_bound_bytes,
        "workspace_bytes_per_thread": regions.workspace_bytes_per_thread,
        "total_bytes": regions.frozen_bytes + regions.state_bytes + regions.arena_bytes,
    }


def memory_rows(memory: Mapping[str, int]) -> dict[str, str]:
    """Return the same for a table."""
    names = {key: key.replace("_bytes", "").replace("_", " ") for key in memory}
    return {names[key]: format_bytes(value) for key, value in memory.items() if value}
