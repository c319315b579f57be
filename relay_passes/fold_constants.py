"""Compute at compile time whatever depends on constants only.

Before:  a = arange(0, 128);  m = where(a >= 0, 0, -inf);  y = x + m
After:   y = x + <constant>

Relax's own ``FoldConstant`` builds one function per operator and skips those without a tensor
operand (arange, full, broadcast_to), which attention masks are made of. Here the whole constant
part of the graph is built and run once.
"""

import tvm
from tvm import relax
from tvm.ir import GenericConst
from tvm.target import Target

from pock_tvm.relay_passes.rewrite import bindings_of, rewrite_main, static_shape, substitute

MAX_ELEMENTS = 1 << 22
"""Larger constants are computed on the device: they would weigh more than they take time."""


@tvm.transform.module_pass(opt_level=0, name="FoldConstants")
class FoldConstants:
    """Replace the constant values that the rest of the graph reads by constants."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``."""
        constant, frontier = _constant_part(mod["main"])
        if not frontier:
            return mod
        values = _run(constant, frontier)
        by_order = iter([values.get(b.var) for b in bindings_of(mod["main"])])

        def replace(_bb: relax.BlockBuilder, value: relax.Expr) -> relax.Expr:
            folded = next(by_order)
            return value if folded is None else folded

        return relax.transform.DeadCodeElimination()(rewrite_main(mod, replace))


def _constant_part(
    func: relax.Function,
) -> tuple[list[relax.VarBinding], list[relax.Var]]:
    """Return the bindings that need no parameter, and the ones among them that others read."""
    constant: list[relax.VarBinding] = []
    bound: set[relax.Var] = set()
    frontier: dict[relax.Var, None] = {}
    for binding in bindings_of(func):
        reads = relax.analysis.free_vars(binding.value)
        if all(v in bound for v in reads) and _foldable(binding.value):
            constant.append(binding)
            bound.add(binding.var)
        else:
            frontier.update((v, None) for v in reads if v in bound)
    frontier.update((v, None) for v in relax.analysis.free_vars(func.body.body) if v in bound)
    return constant, list(frontier)


def _foldable(value: relax.Expr) -> bool:
    if isinstance(value, relax.Var) or not isinstance(value.ty, relax.TensorType):
        return False
    size = 1
    for extent in static_shape(value):
        size *= extent
    return size <= MAX_ELEMENTS


def _run(
    constant: list[relax.VarBinding], frontier: list[relax.Var]
) -> dict[relax.Var, GenericConst]:
    bb = relax.BlockBuilder()
    env: dict[relax.Var, relax.Expr] = {}
    with bb.function("main", []):
        with bb.dataflow():
            for binding in constant:
                env[binding.var] = bb.emit(substitute(binding.value, env))
            result = bb.emit_output(relax.Tuple([env[v] for v in frontier]))
        bb.emit_func_output(result)
    # It runs once: what LLVM's level 3, which TVM takes unasked, would save costs more to compile.
    executable = tvm.compile(bb.get(), target=Target({"kind": "llvm", "opt-level": 0}))
    outputs = relax.VirtualMachine(executable, tvm.cpu())["main"]()
    return {
        # Without the dtype, relax.const makes float32 of float64.
        v: relax.const(o.numpy(), str(v.ty.dtype))
        for v, o in zip(frontier, outputs, strict=True)
    }
