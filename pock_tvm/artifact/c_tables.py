"""Write ``pock_artifact.c``: what the C runtime knows about one artifact.

The runtime parses no JSON. A checkpoint's header is fixed when the artifact is made, but for four
fields of fixed width, so the whole of it is a constant here.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from pock_tvm.artifact.description import (
    ACCUMULATION_COUNT,
    ENTRIES,
    ITEM_BYTES,
    REGIONS,
    ROLES,
    ArtifactDescription,
    TensorSpec,
)
from pock_tvm.artifact.picture import picture_of
from pock_tvm.artifact.safetensors_header import data_offset, file_start, header_json

_NUMBER = "0" * 20
_HASH = "0" * 64
_CHECKED_DTYPES = ("float16", "bfloat16", "float32", "float64", "int32", "int64")


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """What the runtime checks before it trusts ``weights.safetensors``."""

    nbytes: int
    data_offset: int
    sha256: str
    frozen_sha256: str
    """Of the frozen region alone: a checkpoint only fits the backbone it was trained on."""


def checkpoint_header(description: ArtifactDescription, frozen_sha256: str) -> bytes:
    """Return the JSON that every checkpoint of the artifact starts with, its fields all zeros."""
    metadata = {
        "format": "pock-checkpoint",
        "step": _NUMBER,
        "cursor": _NUMBER,
        "seed": _NUMBER,
        "sha256": _HASH,
        "frozen_sha256": frozen_sha256,
        "model": description.model,
    }
    state = description.in_region("state")
    return header_json([(state, description.regions.state_bytes)], metadata)


def record_layout(tensors: Iterable[TensorSpec]) -> int:
    """Return the CRC-32 by which a data file and an artifact agree on what a record holds."""
    text = ";".join(
        f"{tensor.name}:{tensor.dtype}:{','.join(map(str, tensor.shape[1:]))}" for tensor in tensors
    )
    return zlib.crc32(text.encode())


def record_bytes(tensors: Iterable[TensorSpec]) -> int:
    """Return the bytes of one sample: its share of each input and of the labels."""
    return sum(tensor.nbytes // tensor.shape[0] for tensor in tensors)


def c_tables(
    description: ArtifactDescription,
    artifact_id: str,
    weights: WeightsFile,
    cpu_features: Iterable[str],
    *,
    has_device: bool = False,
) -> str:
    """Return the text of ``pock_artifact.c``."""
    header = checkpoint_header(description, weights.frozen_sha256)
    start = file_start(header)[: 8 + len(header)]
    regions = description.regions
    samples = description.sample_tensors
    return f"""/* Written by pock_tvm for one artifact; the runtime reads nothing else about it. */
#include "pock_internal.h"

{_prototypes(description)}

static const pock_tensor_row tensors[] = {{
{_tensor_rows(description)}
}};

static const char checkpoint_start[] =
{_string_lines(start)};

const pock_artifact_table pock_artifact = {{
    .id = {c_string(artifact_id)},
    .model = {c_string(description.model)},
    .target = {c_string(description.target)},
    .device = {"&pock_device_driver" if has_device else "NULL"},
    .cpu_features = {c_string("".join(f"{name} " for name in cpu_features))},
    .frozen_bytes = {regions.frozen_bytes},
    .state_bytes = {regions.state_bytes},
    .trainable_bytes = {regions.trainable_bytes},
    .arena_bytes = {regions.arena_bytes},
    .workspace_bytes_per_thread = {_aligned(regions.workspace_bytes_per_thread)},
    .batch = {description.batch},
    .accumulate = {description.accumulate},
    .accumulated = {_row_of(description, ACCUMULATION_COUNT)},
    .tensor_count = {len(description.tensors)},
    .tensors = tensors,
    .entries = {{
{_entry_rows(description)}
    }},
    .weights_bytes = {weights.nbytes},
    .weights_data_offset = {weights.data_offset},
    .weights_sha256 = {{{", ".join(f"0x{byte:02x}" for byte in bytes.fromhex(weights.sha256))}}},
    .checkpoint_start = checkpoint_start,
    .checkpoint_start_bytes = {len(start)},
    .checkpoint_data_offset = {data_offset(header)},
    .step_at = {_field_offset(start, "step")},
    .cursor_at = {_field_offset(start, "cursor")},
    .seed_at = {_field_offset(start, "seed")},
    .sha256_at = {_field_offset(start, "sha256")},
    .record_bytes = {record_bytes(samples)},
    .record_layout = 0x{record_layout(samples):08x},
    .picture = {_picture(description)},
}};
"""


def weights_section(weights: WeightsFile) -> str:
    """Return the text of ``pock_weights.S``, which puts the weights file into a program.

    It names the file's hash for compilers that keep objects by what their sources say: zig.
    """
    return f"""/* The weights file, SHA-256 {weights.sha256}, for pock_open_memory.
 * Assemble with -I and the artifact's folder. In C:
 *   extern const unsigned char pock_weights[], pock_weights_end[]; */
  .section .rodata.pock_weights, "a"
  .balign 64
  .global pock_weights
pock_weights:
  .incbin "weights.safetensors"
  .global pock_weights_end
pock_weights_end:
"""


def c_sizes(description: ArtifactDescription, weights: WeightsFile) -> str:
    """Return the text of ``pock_sizes.h``: memory to declare in a program without a heap."""
    regions = description.regions
    workspace = _aligned(regions.workspace_bytes_per_thread)
    return f"""/* Written by pock_tvm for one artifact: the memory that one thread asks for. */
#ifndef POCK_SIZES_H
#define POCK_SIZES_H

#define POCK_SESSION_BYTES 768
#define POCK_STATE_BYTES {max(regions.state_bytes, 1)}
#define POCK_ARENA_BYTES {max(regions.arena_bytes + workspace, 1)}

/* Where the frozen weights lie behind pock_weights, for pock_init. */
#define POCK_FROZEN_OFFSET {weights.data_offset}
#define POCK_FROZEN_BYTES {regions.frozen_bytes}

#endif
"""


def _picture(description: ArtifactDescription) -> str:
    found = picture_of(description)
    if found is None:
        return "{0}"
    row = _row_of(description, found.tensor.name)
    height, width = found.extents
    return f"{{{row}, {found.planes}, {height}, {width}, {found.pixel_bytes}}}"


def _prototypes(description: ArtifactDescription) -> str:
    return "\n".join(
        f"int32_t {entry.symbol}(void *frozen, void *state, void *arena);"
        for entry in description.entries
    )


def _tensor_rows(description: ArtifactDescription) -> str:
    rows = []
    for tensor in description.tensors:
        read_by = sum(
            1 << ENTRIES.index(entry.name)
            for entry in description.entries
            if tensor.name in entry.inputs
        )
        dtype = (
            _CHECKED_DTYPES.index(tensor.dtype)
            if tensor.dtype in _CHECKED_DTYPES
            else len(_CHECKED_DTYPES)
        )
        numbers = (
            tensor.offset,
            tensor.nbytes,
            REGIONS.index(tensor.region),
            ROLES.index(tensor.role),
            dtype,
            ITEM_BYTES[tensor.dtype],
            int(tensor.limit is not None),
            int(tensor.ignore is not None),
            read_by,
            tensor.limit or 0,
            tensor.ignore or 0,
        )
        rows.append(f"    {{{c_string(tensor.name)}, {', '.join(map(str, numbers))}}},")
    return "\n".join(rows)


def _entry_rows(description: ArtifactDescription) -> str:
    arena = {
        tensor.name: index
        for index, tensor in enumerate(description.tensors)
        if tensor.region == "arena"
    }
    rows = []
    for name in ENTRIES:
        entry = description.entry(name)
        if entry is None:
            rows.append("        {0, -1, -1, -1},")
            continue
        used = {*entry.inputs, *entry.outputs}
        known = [
            arena[scalar] if scalar in used else -1
            for scalar in ("loss", "correct", "learning_rate")
        ]
        rows.append(f"        {{{entry.symbol}, {', '.join(map(str, known))}}},")
    return "\n".join(rows)


def _row_of(description: ArtifactDescription, name: str) -> int:
    names = [tensor.name for tensor in description.tensors]
    return names.index(name) if name in names else -1


def _field_offset(start: bytes, name: str) -> int:
    """Return where the value of a metadata field stands."""
    # the metadata comes first, and a quote inside a name would be escaped
    key = f'"{name}":"'.encode()
    return start.index(key) + len(key)


def _aligned(size: int) -> int:
    return -(-size // 64) * 64


def _string_lines(raw: bytes, width: int = 96) -> str:
    lines = (raw[at : at + width] for at in range(0, len(raw), width))
    return "\n".join(f"    {_literal(line)}" for line in lines)


def c_string(text: str) -> str:
    """Return the C literal of a text."""
    return _literal(text.encode())


def _literal(raw: bytes) -> str:
    plain = (chr(b) if 32 <= b < 127 and b not in b'"\\?' else f"\\{b:03o}" for b in raw)
    return f'"{"".join(plain)}"'
