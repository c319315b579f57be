"""What every graph pass must hold: one check for all of them."""

from collections.abc import Mapping

import numpy as np
import tvm
from tvm import relax

from pock_tvm.relay_passes.operators import LOWERINGS


def main_of(build, shapes: Mapping[str, tuple[int, ...]], dtype: str = "float64") -> tvm.IRModule:
    """Return a module whose ``main`` binds what ``build(bb, **parameters)`` returns."""
    params = {name: relax.Var(name, relax.TensorType(s, dtype)) for name, s in shapes.items()}
    bb = relax.BlockBuilder()
    with bb.function("main", list(params.values())):
        with bb.dataflow():
            result = build(bb, **params)
            result = bb.emit_output(relax.Tuple(result) if isinstance(result, tuple) else result)
        bb.emit_func_output(result)
    return bb.get()


def operators(mod: tvm.IRModule) -> list[str]:
    """Return the names of the operators that ``main`` applies, in order."""
    bindings = [b for block in mod["main"].body.blocks for b in block.bindings]
    calls = [b.value for b in bindings if isinstance(b.value, relax.Call)]
    return [call.op.name.removeprefix("relax.") for call in calls]


def run(mod: tvm.IRModule, *arrays: np.ndarray) -> list[np.ndarray]:
    """Evaluate ``main`` without any schedule."""
    legal = relax.transform.LegalizeOps(LOWERINGS)(mod)
    target = tvm.target.Target({"kind": "llvm", "opt-level": 0})  # it runs once
    vm = relax.VirtualMachine(tvm.compile(legal, target=target), tvm.cpu())
    result = vm["main"](*(tvm.runtime.tensor(np.asarray(a)) for a in arrays))
    return [r.numpy() for r in (result if not hasattr(result, "numpy") else [result])]


def random_arguments(mod: tvm.IRModule, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [
        rng.uniform(0.5, 2.0, [int(d) for d in p.ty.shape]).astype(str(p.ty.dtype))
        for p in mod["main"].params
    ]


def check_pass(
    transform,
    before: tvm.IRModule,
    expected: tvm.IRModule | None = None,
    *,
    same_values: bool = True,
    stored_axes: bool = False,
) -> tvm.IRModule:
    """Apply ``transform`` and check the contract of a pass; return what it made.

    The input stays as it is; the result is well formed; doing it twice changes nothing more; the
    values are those of the input; the structure is ``expected`` where that is given.

    Args:
        same_values: compare the values too (same parameters on both sides).
        stored_axes: the pass may permute parameters, and says so in the attribute of that name.
    """
    untouched = before.clone()
    after = transform(before)
    tvm.ir.assert_structural_equal(before, untouched)
    relax.analysis.well_formed(after)
    tvm.ir.assert_structural_equal(_bare(transform(after)), _bare(after))
    if expected is not None:
        tvm.ir.assert_structural_equal(_bare(after), _bare(expected))
    if same_values:
        arguments = random_arguments(before)
        moved = list(arguments)
        if stored_axes:
            axes = dict(after["main"].attrs["stored_axes"])
            for i, p in enumerate(before["main"].params):
                if p.name in axes:
                    moved[i] = np.ascontiguousarray(arguments[i].transpose([*axes[p.name]]))
        for got, wanted in zip(run(after, *moved), run(before, *arguments), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)
    return after


def _bare(mod: tvm.IRModule) -> tvm.IRModule:
    """Return ``mod`` without the attributes of its functions."""
    out = mod.clone()
    for var, func in mod.functions_items():
        if isinstance(func, relax.Function):
            for key in list((func.attrs or {}).keys()):
                func = func.without_attr(key)
            out[var] = func
    return out
