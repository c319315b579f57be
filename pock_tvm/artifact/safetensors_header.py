"""Lay regions out as a safetensors file in which each region is one slice.

safetensors wants the tensors to cover the data section without holes, in any order of the header;
the gaps that alignment leaves are therefore tensors too, ``pad.0``, ``pad.1``, ….
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pock_tvm.artifact.description import TensorSpec

PAGE = 4096
"""The data section starts at a multiple of this, so that mapping the file maps aligned tensors."""

DTYPE_CODES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
}


def header_json(
    regions: Sequence[tuple[Iterable[TensorSpec], int]], metadata: Mapping[str, str]
) -> bytes:
    """Describe the regions, each as its tensors and its size, one after another."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    pads = base = 0
    for tensors, size in regions:
        end = base
        for tensor in sorted(tensors, key=lambda tensor: (tensor.offset, tensor.nbytes)):
            start = base + tensor.offset
            if start > end:
                header[f"pad.{pads}"] = _entry("U8", [start - end], end, start)
                pads += 1
            end = start + tensor.nbytes
            header[tensor.name] = _entry(DTYPE_CODES[tensor.dtype], list(tensor.shape), start, end)
        base += size
        if base > end:
            header[f"pad.{pads}"] = _entry("U8", [base - end], end, base)
            pads += 1
    return json.dumps(header, separators=(",", ":"), ensure_ascii=True).encode()


def data_offset(header: bytes) -> int:
    """Return where the data section starts once the header is padded with spaces to a page."""
    return -(-(8 + len(header)) // PAGE) * PAGE


def file_start(header: bytes) -> bytes:
    """Return everything before the data section: the length, the header, its padding."""
    length = data_offset(header) - 8
    return length.to_bytes(8, "little") + header.ljust(length)


def _entry(code: str, shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": code, "shape": shape, "data_offsets": [start, end]}
