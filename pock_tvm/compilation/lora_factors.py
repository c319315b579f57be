"""Give an imported model the factors that low-rank adaptation trains."""

import zlib
from dataclasses import replace

import numpy as np
from tvm import IRModule, relax

from pock_tvm.frontend import ImportedModel
from pock_tvm.update import Adaptation, Update, lora_names


def with_factors(model: ImportedModel, update: Update) -> ImportedModel:
    """Return the model with parameters A and B for each adapted weight; nothing reads them yet.

    A is uniform in ±1/√in, which is what Kaiming's rule with a = √5 gives, B is zero: before the
    first step the model computes what it did. Each weight draws on its own, whatever else learns.
    """
    if not update.lora:
        return model
    factors: dict[str, np.ndarray] = {}
    for weight, adaptation in update.lora.items():
        dtype = model.parameters[weight].dtype
        factors.update(zip(lora_names(weight), _drawn(weight, adaptation, dtype), strict=True))
    func = model.mod["main"]
    count = len(model.parameters)
    added = [
        relax.Var(name, relax.TensorType(value.shape, str(value.dtype)))
        for name, value in factors.items()
    ]
    params = [*func.params[:count], *added, *func.params[count:]]
    main = relax.Function(params, func.body, func.ret_ty, func.is_pure, func.attrs)
    return replace(model, mod=IRModule({"main": main}), parameters={**model.parameters, **factors})


def _drawn(weight: str, adaptation: Adaptation, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    lora = adaptation.lora
    generator = np.random.default_rng([lora.seed, zlib.crc32(weight.encode())])
    bound = adaptation.inputs**-0.5
    a = generator.uniform(-bound, bound, (adaptation.inputs, lora.rank)).astype(dtype)
    return a, np.zeros((lora.rank, adaptation.outputs), dtype)
