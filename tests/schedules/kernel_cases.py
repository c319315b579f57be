"""Fused kernels for the schedule tests, built the way the pipeline builds them."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tvm
from tvm import relax, tirx

from pock_tvm.relay_passes.expand_transcendentals import ExpandTranscendentals
from pock_tvm.relay_passes.fuse_gradient_readers import FuseGradientReaders
from pock_tvm.relay_passes.pipeline import LOWERINGS
from pock_tvm.schedules import schedule_kernel
from pock_tvm.targets import TargetSpec, get_target


def fuse_kernels(
    build: Callable[..., relax.Expr], *inputs: Any, with_readers: bool = False
) -> list[tirx.PrimFunc]:
    """Legalise and fuse a Relax snippet; return its kernels in call order.

    Args:
        build: maps one Relax variable per input to an expression.
        inputs: arrays, or (shape, dtype) pairs.
        with_readers: make one kernel of a weight gradient and all its readers.
    """
    bb = relax.BlockBuilder()
    params = [relax.Var(f"p{k}", _type(x)) for k, x in enumerate(inputs)]
    with bb.function("main", params):
        with bb.dataflow():
            out = bb.emit_output(bb.normalize(build(*params)))
        bb.emit_func_output(out)
    mod = bb.get()
    for step in (
        relax.transform.LegalizeOps(LOWERINGS),
        relax.transform.AnnotateTIROpPattern(),
        *([FuseGradientReaders()] if with_readers else []),
        relax.transform.FoldConstant(),
        relax.transform.FuseOps(),
        relax.transform.FuseTIR(),
    ):
        mod = step(mod)
    values = [b.value for block in mod["main"].body.blocks for b in block.bindings]
    calls = [v for v in values if isinstance(v, relax.Call) and v.op.name == "relax.call_tir"]
    return [mod[call.args[0]] for call in calls]


def fuse_kernel(
    build: Callable[..., relax.Expr], *inputs: Any, with_readers: bool = False
) -> tirx.PrimFunc:
    """Return the one kernel that a Relax snippet becomes."""
    (func,) = fuse_kernels(build, *inputs, with_readers=with_readers)
    return func


def compile_kernel(func: tirx.PrimFunc, spec: str | TargetSpec = "host") -> Any:
    """Schedule a kernel and build it for a target."""
    target = get_target(spec) if isinstance(spec, str) else spec
    scheduled = schedule_kernel(func, target)
    mod = tvm.IRModule({"main": scheduled.with_attr("global_symbol", "main")})
    mod = ExpandTranscendentals()(mod)
    return tirx.build(mod, target=target.build())


def run_kernel(func: tirx.PrimFunc, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Schedule, build and run a kernel on this machine; return its outputs."""
    return run_built(compile_kernel(func), func, inputs)


def run_built(lib: Any, func: tirx.PrimFunc, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Run a built kernel with outputs full of NaN (or the largest integer) beforehand."""
    arrays = [tvm.runtime.tensor(x) for x in inputs]
    outputs = [
        tvm.runtime.tensor(_poison([int(d) for d in p.shape], str(p.dtype)))
        for p in func.params[len(inputs) :]
    ]
    lib["main"](*arrays, *outputs)
    return [o.numpy() for o in outputs]


def assembly(func: tirx.PrimFunc, spec: str | TargetSpec) -> str:
    """Return the assembly of a scheduled kernel."""
    return str(compile_kernel(func, spec).inspect_source("asm"))


def count(pattern: str, text: str) -> int:
    """Count the matches of a regular expression."""
    return len(re.findall(pattern, text))


def _type(x: Any) -> relax.TensorType:
    if isinstance(x, np.ndarray):
        return relax.TensorType(x.shape, str(x.dtype))
    return relax.TensorType(*x)


def _poison(shape: list[int], dtype: str) -> np.ndarray:
    kind = np.dtype(dtype)
    bad = np.nan if kind.kind == "f" else True if kind.kind == "b" else np.iinfo(kind).max
    return np.full(shape, bad, kind)


def run_on_one_and_two_threads(
    func: tirx.PrimFunc, inputs: Sequence[np.ndarray], spec: str | TargetSpec = "host"
) -> list[list[np.ndarray]]:
    """Run a kernel on one worker thread, then on two."""
    configure = tvm.get_global_func("runtime.config_threadpool")
    lib, results = compile_kernel(func, spec), []
    try:
        for threads in (1, 2):
            configure(1, threads)
            results.append(run_built(lib, func, inputs))
    finally:
        configure(1, 0)
    return results
