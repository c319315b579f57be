"""Write ``pock_kernels.c``: the kernels of a GPU, and what an entry point launches with what.

const char *const pock_sources[] = {"__kernel void …", …};
const pock_device_kernel pock_kernels[] = {{name, arguments, {groups}, {threads}}, …};
const pock_argument pock_arguments[] = {{start, region}, …};
static const pock_launch train_step[] = {{kernel, first argument}, …};
int32_t pock_entry_train_step(…) { return pock_launch_all(POCK_TRAIN_STEP, train_step, count); }
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pock_tvm.artifact.c_tables import c_string
from pock_tvm.artifact.description import REGIONS

if TYPE_CHECKING:  # imports tvm, which this module does without
    from pock_tvm.relay_passes.write_device_source import DeviceLaunch

Place = tuple[str, int]
"""A region, and bytes behind its start."""


@dataclass(frozen=True)
class EntryLaunches:
    """An entry point: the symbol of each launch in order, and where its arguments lie."""

    name: str
    symbol: str
    launches: tuple[tuple[str, tuple[Place, ...]], ...]


@dataclass(frozen=True)
class Image:
    """Kernels that were assembled when the model was compiled."""

    content: bytes
    architecture: int
    """87 for ``sm_87``."""


def launch_tables(
    kernels: Sequence["DeviceLaunch"],
    entries: Iterable[EntryLaunches],
    code: Sequence[str] | Image,
) -> str:
    """Return the text of ``pock_kernels.c``.

    Args:
        kernels: what there is to launch.
        entries: what each entry point launches.
        code: of the kernels: source, as the driver takes it, or an image.
    """
    rows = {kernel.symbol: row for row, kernel in enumerate(kernels)}
    first: dict[tuple[Place, ...], int] = {}
    places: list[Place] = []
    functions = []
    for entry in entries:
        launches = []
        for symbol, arguments in entry.launches:
            if arguments not in first:
                first[arguments] = len(places)
                places += arguments
            launches.append(f"    {{{rows[symbol]}, {first[arguments]}}},")
        functions.append(_entry(entry, launches))
    lines = "\n".join
    return f"""/* Written by pock_tvm for one artifact: the kernels of its GPU. */
#include "pock_internal.h"
#include "pock_launch.h"

{_image(code) if isinstance(code, Image) else _sources(code)}

const pock_device_kernel pock_kernels[] = {{
{lines(_row(kernel) for kernel in kernels)}
}};

const uint32_t pock_kernel_count = {len(kernels)};

const pock_argument pock_arguments[] = {{
{lines(f"    {{{start}, {REGIONS.index(region)}}}," for region, start in places)}
}};

{lines(functions)}"""


def _sources(sources: Sequence[str]) -> str:
    texts = "\n".join(map(_text, sources))
    return f"const char *const pock_sources[] = {{\n{texts}\n}};"


def _image(image: Image) -> str:
    size = 24  # of a line
    rows = (image.content[at : at + size] for at in range(0, len(image.content), size))
    numbers = "\n".join(f"    {', '.join(map(str, row))}," for row in rows)
    return (
        f"const int pock_architecture = {image.architecture};\n\n"
        "__attribute__((aligned(64)))\n"
        f"const unsigned char pock_image[] = {{\n{numbers}\n}};"
    )


def _text(source: str) -> str:
    return "\n".join(f"    {c_string(line)}" for line in source.splitlines(keepends=True)) + ","


def _row(kernel: "DeviceLaunch") -> str:
    groups, threads = (", ".join(map(str, size)) for size in (kernel.groups, kernel.threads))
    count = len(kernel.arguments)
    return f"    {{{c_string(kernel.symbol)}, {count}, {{{groups}}}, {{{threads}}}}},"


def _entry(entry: EntryLaunches, launches: Sequence[str]) -> str:
    table = "\n".join(launches)
    return f"""int32_t {entry.symbol}(void *frozen, void *state, void *arena);
static const pock_launch {entry.name}[] = {{
{table}
}};

int32_t {entry.symbol}(void *frozen, void *state, void *arena) {{
  (void)frozen, (void)state, (void)arena; /* the session has them */
  return pock_launch_all(POCK_{entry.name.upper()}, {entry.name}, {len(launches)});
}}
"""
