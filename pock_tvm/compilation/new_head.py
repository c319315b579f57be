"""Give a model a head of another number of classes, for data that has others than it was made for.

Before:  features @ weightᵀ + bias -> logits (…, classes)
After:   features @ weightᵀ + bias -> logits (…, new classes), both drawn anew

All that stands before the head stays as it was.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import tvm
from tvm import relax
from tvm.error import InternalError

from pock_tvm.compilation.inventory import parameters_of
from pock_tvm.errors import UnsupportedModelError
from pock_tvm.frontend import ImportedModel
from pock_tvm.relay_passes.rewrite import bindings_of, substitute
from pock_tvm.update import Parameter, head_names


def with_new_head(model: ImportedModel, classes: int, seed: int = 0) -> ImportedModel:
    """Return the model with ``classes`` outputs.

    The weight is drawn evenly from ±1/√inputs, as PyTorch starts a linear layer; the bias is zero.

    Raises:
        UnsupportedModelError: the output does not come straight from the model's last layer.
    """
    if classes < 2:
        raise UnsupportedModelError(f"a head of {classes} classes: two are least")
    parameters = {p.name: p for p in parameters_of(model)}
    weight, *biases = _head(model, list(parameters.values()))
    generator = np.random.default_rng(seed)
    axis, inner = weight.output_axis, weight.input_axis
    assert axis is not None
    assert inner is not None
    shape = tuple(classes if i == axis else extent for i, extent in enumerate(weight.shape))
    bound = 1 / np.sqrt(weight.shape[inner])
    fresh = {weight.name: generator.uniform(-bound, bound, shape).astype(weight.dtype)}
    fresh |= {p.name: np.zeros(classes, p.dtype) for p in biases}
    try:
        mod = _with_shapes(model.mod, {name: value.shape for name, value in fresh.items()})
    except (InternalError, RuntimeError, TypeError, ValueError) as error:
        raise _refusal(model, "what follows it counts on the old classes") from error
    output = mod["main"].ret_ty
    if not isinstance(output, relax.TensorType) or int(output.shape[-1]) != classes:
        raise _refusal(model, f"{weight.name} does not make the logits")
    return replace(model, mod=mod, parameters={**model.parameters, **fresh})


def _head(model: ImportedModel, parameters: list[Parameter]) -> list[Parameter]:
    """Return the weight of the last layer, then its biases."""
    by_name = {name: p for p in parameters for name in p.names}
    found = [by_name[name] for name in head_names(parameters)]
    weights = [p for p in found if p.reader in ("linear", "conv") and p.groups == 1]
    if len(weights) != 1:
        raise _refusal(model, f"the last module holds {', '.join(p.name for p in found)}")
    weight = weights[0]
    assert weight.output_axis is not None
    classes = weight.shape[weight.output_axis]
    output = model.mod["main"].ret_ty
    if not isinstance(output, relax.TensorType) or int(output.shape[-1]) != classes:
        raise _refusal(model, f"{weight.name} does not make the logits")
    return [weight, *(p for p in found if p.shape == (classes,))]


def _with_shapes(mod: tvm.IRModule, shapes: Mapping[str, tuple[int, ...]]) -> tvm.IRModule:
    """Return the module with other shapes of some parameters, all types inferred again."""
    func = mod["main"]
    params = [
        relax.Var(p.name, relax.TensorType(list(shapes[p.name]), p.ty.dtype))
        if p.name in shapes
        else relax.Var(p.name, p.ty)
        for p in func.params
    ]
    env: dict[relax.Var, relax.Expr] = dict(zip(func.params, params, strict=True))
    bb = relax.BlockBuilder()
    with bb.function("main", params, attrs=dict(func.attrs or {})):
        with bb.dataflow():
            for binding in bindings_of(func):
                env[binding.var] = bb.emit(substitute(binding.value, env))
            output = bb.emit_output(substitute(func.body.body, env))
        bb.emit_func_output(output)
    fresh = mod.clone()
    fresh["main"] = bb.get()["main"]
    return fresh


def _refusal(model: ImportedModel, why: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{model.name} cannot be given a new head: {why}; make the model with the classes you need"
    )
