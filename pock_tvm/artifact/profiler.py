"""Time every kernel call of a training step, in a program linked for it from an artifact."""

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pock_tvm.artifact.link import link_profiler
from pock_tvm.artifact.load import Artifact
from pock_tvm.errors import ArtifactError, PockError

if TYPE_CHECKING:
    from pock_tvm.targets import TargetSpec


@dataclass(frozen=True)
class Timings:
    """What the program measured, on the machine where it ran."""

    steps_ns: tuple[int, ...]
    """Whole steps, without a timer inside."""
    calls_ns: tuple[tuple[int, ...], ...]
    """By kernel call, then by step."""
    flops_per_s: float
    """Multiply-adds in registers on one core, two operations each."""
    cache_bytes_per_s: float
    """x = y + s·z over 192 KiB on one core."""
    memory_bytes_per_s: float
    """The same over 96 MiB."""


def time_calls(artifact: Artifact, spec: "TargetSpec", *, threads: int, steps: int) -> Timings:
    """Link the profiler, run it here (in the emulator of the target where it has one).

    Raises:
        BuildError: zig could not link.
        PockError: the program failed, or the kernels run on a GPU.
    """
    if spec.device is not None:
        raise PockError(
            f"the profiler times kernels on the processor, and {spec.name} runs them on a GPU; "
            "its driver's own profiler can tell"
        )
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "pock_profile"
        build_profiler(artifact, spec, program)
        command = [*spec.emulator, str(program), str(artifact.weights), str(threads), str(steps)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise PockError(f"cannot run {command[0]}: {error.strerror}") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"]
        raise PockError(f"profiling {artifact.directory} failed: {lines[-1]}")
    found = json.loads(done.stdout)
    return Timings(
        steps_ns=tuple(found["steps_ns"]),
        calls_ns=tuple(map(tuple, found["calls_ns"])),
        flops_per_s=found["flops_per_s"],
        cache_bytes_per_s=found["cache_bytes_per_s"],
        memory_bytes_per_s=found["memory_bytes_per_s"],
    )


def build_profiler(artifact: Artifact, spec: "TargetSpec", program: Path) -> None:
    """Link ``program``: it takes the weights file, threads and steps, and prints JSON."""
    source = program.with_suffix(".c")
    source.write_text(calls_source(artifact.plan()["train_step"]), encoding="utf-8")
    try:
        link_profiler(artifact.directory, source, program, spec)
    finally:
        source.unlink()


def calls_source(plan: Mapping[str, Any]) -> str:
    """Return ``pock_calls.c``: one function per kernel call, with its addresses in the regions."""
    place = {
        t["name"]: f"{_identifier(t['region'])} + {int(t['offset'])}ull" for t in plan["tensors"]
    }
    kernels: dict[str, int] = {}
    bodies = []
    for index, call in enumerate(plan["calls"]):
        names = _arguments(call)
        kernel = _identifier(call["kernel"])
        kernels[kernel] = len(names)
        places = ", ".join(place[name] for name in names)
        bodies.append(
            f"static int32_t call_{index}(unsigned char *frozen, unsigned char *state, "
            "unsigned char *arena) {\n  (void)frozen; (void)state; (void)arena;\n"
            f"  return pock_kernel_{kernel}({places});\n}}"
        )
    declarations = (
        f"int32_t pock_kernel_{name}({', '.join(['void *'] * count)});"
        for name, count in kernels.items()
    )
    table = ",\n".join(f"  call_{index}" for index in range(len(bodies)))
    parts = (
        '#include "pock_calls.h"',
        "\n".join(declarations),
        "\n".join(bodies),
        f"const pock_call pock_calls[] = {{\n{table}\n}};",
        f"const uint32_t pock_call_count = {len(bodies)};\n",
    )
    return "\n\n".join(parts)


def _identifier(name: str) -> str:
    """Return a name that may stand in C source; the plan may come from a stranger."""
    if not name.isidentifier() or not name.isascii():
        raise ArtifactError(f"plan.json holds {name!r}, which is no name; compile the model again")
    return name


def _arguments(call: Mapping[str, Any]) -> Sequence[str]:
    return call["reads"] if call["overwrites"] else [*call["reads"], *call["writes"]]
