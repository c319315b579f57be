"""The model in float64, on the virtual machine of TVM: nothing of our schedules or plans."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst
from tvm.target import Target

from pock_tvm.frontend import ImportedModel
from pock_tvm.relay_passes.append_teacher import is_teacher_name, teacher_name
from pock_tvm.relay_passes.operators import LOWERINGS
from pock_tvm.relay_passes.rewrite import bindings_of, substitute

_NARROW, _WIDE = "float32", "float64"
_TARGET = {"kind": "llvm", "opt-level": 2}
"""At level 3, which TVM takes unasked, LLVM needs three times as long for code that runs once."""


def in_float64(model: ImportedModel) -> ImportedModel:
    """Return a model with every float32 tensor, constant and operator in float64.

    Weights are the float32 ones, widened; so are the constants of the graph, which is why a
    framework that counts in float64 from the start differs by 1e-8 from it.
    """
    func = model.mod["main"]
    env: dict[relax.Var, relax.Expr] = {p: relax.Var(p.name, _wide_type(p.ty)) for p in func.params}
    bb = relax.BlockBuilder()
    with bb.function("main", [env[p] for p in func.params], attrs=dict(func.attrs or {})):
        with bb.dataflow():
            for binding in bindings_of(func):
                env[binding.var] = bb.emit(_widen(substitute(binding.value, env)))
            output = bb.emit_output(substitute(func.body.body, env))
        bb.emit_func_output(output)
    mod = model.mod.clone()
    mod["main"] = bb.get()["main"]
    return replace(
        model,
        mod=mod,
        parameters=dict(
            zip(model.parameters, map(widened, model.parameters.values()), strict=True)
        ),
    )


def widened(value: np.ndarray) -> np.ndarray:
    """Return float32 values as float64, all others as they are."""
    return value.astype(_WIDE) if value.dtype == _NARROW else value


class Function:
    """``main`` of a module, compiled for this machine, called with values by name.

    Args:
        mod: the module.
        imported: it has not been through the pipeline: layouts are the model's own, so TVM
            lowers convolutions and pools.
    """

    def __init__(self, mod: tvm.IRModule, *, imported: bool = False) -> None:
        main = mod["main"]
        self.parameters = {p.name: p.ty for p in main.params}
        self.updates = [str(name) for name in (main.attrs or {}).get("updates", [])]
        ours = {n: f for n, f in LOWERINGS.items() if not imported or not _is_windowed(n)}
        legal = relax.transform.LegalizeOps(ours)(mod)
        legal = relax.transform.DeadCodeElimination(["main"])(legal)
        machine = relax.VirtualMachine(tvm.compile(legal, target=Target(_TARGET)), tvm.cpu())
        self._call = machine["main"]

    def __call__(self, values: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Return the outputs; a parameter that ``values`` lacks is zero, as a fresh state is."""
        arrays = []
        for name, ty in self.parameters.items():
            shape = tuple(int(d) for d in ty.shape)
            value = values.get(name, np.zeros(shape, str(ty.dtype)))
            arrays.append(tvm.runtime.tensor(np.array(value, str(ty.dtype), order="C")))
        found = self._call(*arrays)
        return [r.numpy() for r in found] if not hasattr(found, "numpy") else [found.numpy()]


def values_for(
    parameters: Mapping[str, np.ndarray],
    samples: Mapping[str, np.ndarray],
    names: Sequence[str],
    axes: Mapping[str, tuple[int, ...]],
) -> dict[str, np.ndarray]:
    """Return what a canonical graph takes: parameters as stored, a teacher's copies, samples."""
    stored = {
        name: value.transpose(axes[name]) if name in axes else value
        for name, value in parameters.items()
    }
    copies = {
        name: stored[name.removeprefix(teacher_name(""))] for name in names if is_teacher_name(name)
    }
    inputs = {n: v.transpose(axes[n]) if n in axes else v for n, v in samples.items()}
    return {**stored, **copies, **inputs}


def _is_windowed(operator: str) -> bool:
    """Tell whether our lowering of an operator wants channels last; TVM's takes any layout."""
    return operator.startswith("relax.nn.") and ("conv" in operator or "pool" in operator)


def _wide_type(ty: Any) -> Any:
    if isinstance(ty, relax.TensorType) and str(ty.dtype) == _NARROW:
        return relax.TensorType(ty.shape, _WIDE)
    return ty


def _widen(expr: relax.Expr) -> relax.Expr:
    if isinstance(expr, relax.Tuple):
        return relax.Tuple([_widen(field) for field in expr.fields])
    if isinstance(expr, GenericConst):
        value = widened(expr.value.numpy())
        return relax.const(value, str(value.dtype))  # a bare scalar would be taken for float32
    if isinstance(expr, relax.Call):
        return relax.Call(
            expr.op,
            [_widen(a) for a in expr.args],
            _wide_attrs(expr.attrs),
            expr.ty_args,
            expr.span,
        )
    return expr


def _wide_attrs(attrs: Any) -> Any:
    """Return attributes in which every name of float32 is one of float64."""
    info = getattr(type(attrs), "__tvm_ffi_type_info__", None)
    if attrs is None or info is None:
        return attrs
    fields = {field.name: getattr(attrs, field.name) for field in info.fields}
    narrow = {name for name, value in fields.items() if "dtype" in name and str(value) == _NARROW}
    if not narrow:
        return attrs
    return tvm.ir.make_node(info.type_key, **{**fields, **dict.fromkeys(narrow, _WIDE)})
