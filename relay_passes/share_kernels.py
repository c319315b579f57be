"""Merge the kernels of several entry points: equal ones once, under short names.

A name ends in a part of the kernel's hash: the same kernel has the same name in every artifact, in
profiles that are to be compared, and in the cache of compiled kernels.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import replace

import tvm
import tvm_ffi
from tvm import tirx

from pock_tvm.relay_passes.extract_step import ExtractedStep
from pock_tvm.relay_passes.step import Step

MAX_NAME = 40


def share_kernels(
    extracted: Iterable[ExtractedStep],
) -> tuple[list[Step], dict[str, tirx.PrimFunc]]:
    """Return the steps with their calls renamed, and each distinct kernel once."""
    shared: dict[tvm_ffi.StructuralKey, str] = {}
    kernels: dict[str, tirx.PrimFunc] = {}
    steps = []
    for one in extracted:
        renamed = {}
        for name, func in one.kernels.items():
            key = tvm_ffi.StructuralKey(func.without_attr("global_symbol"))
            if key not in shared:
                digest = digest_of(func)
                short = f"{_short(name)}_{digest[:8]}"
                shared[key] = f"{short}{digest[8:]}" if short in kernels else short
                kernels[shared[key]] = func
            renamed[name] = shared[key]
        calls = (replace(c, kernel=renamed[c.kernel]) for c in one.step.calls)
        steps.append(replace(one.step, calls=tuple(calls)))
    return steps, kernels


def digest_of(func: tirx.PrimFunc) -> str:
    """Return the hash of a kernel, whatever its name."""
    return hashlib.sha256(kernel_text(func).encode()).hexdigest()


def kernel_text(func: tirx.PrimFunc) -> str:
    """Return all of a kernel but its name and those of its variables.

    They say where in a graph a kernel stood, which makes no difference to its code.
    """
    document = json.loads(tvm.ir.save_json(func.without_attr("global_symbol")))
    nodes = document["nodes"]
    names: set[int] = set()
    others: set[int] = set()
    for node in nodes:
        data = node.get("data")
        if node["type"] == "ir.Var":
            names.add(data["name"])
            data = {key: value for key, value in data.items() if key != "name"}
        fields = data.values() if isinstance(data, dict) else data
        if isinstance(fields, Iterable):
            others.update(value for value in fields if isinstance(value, int))
    for index in names - others:  # a text that something else reads as well has to stay
        nodes[index]["data"] = ""
    return json.dumps(document, sort_keys=True)


def _short(name: str) -> str:
    """Return ``fused_conv2d1_add_tir_clip3`` as ``conv2d_add_clip``, cut at a word."""
    words = [re.sub(r"\d+$", "", w) for w in name.split("_")]
    words = [w for w in words if w not in ("fused", "tir", "")]
    short = words[0] if words else "kernel"
    for word in words[1:]:
        if len(short) + len(word) >= MAX_NAME:
            break
        short += f"_{word}"
    return short
