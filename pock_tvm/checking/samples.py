"""Random samples for a check whose user gave none."""

import numpy as np

from pock_tvm.checking.graphs64 import Graphs64
from pock_tvm.frontend import ImportedModel


def draw_samples(
    graphs: Graphs64, model: ImportedModel, generator: np.random.Generator
) -> dict[str, np.ndarray]:
    """Draw normal numbers, valid indices, and labels that the loss takes."""
    samples = {}
    for spec in model.inputs:
        if spec.dtype.startswith("float"):
            samples[spec.name] = generator.standard_normal(spec.shape).astype(spec.dtype)
        else:
            limit = graphs.limits.get(spec.name, 2)  # a mask, where nothing is looked up
            samples[spec.name] = generator.integers(0, limit, spec.shape).astype(spec.dtype)
    labels = next((p for p in graphs.raw["main"].params if p.name == "labels"), None)
    if labels is not None:
        shape = tuple(int(d) for d in labels.ty.shape)
        if str(labels.ty.dtype).startswith("float"):
            samples["labels"] = generator.random(shape).astype("float32")
        else:
            samples["labels"] = generator.integers(0, graphs.classes, shape).astype("int32")
    return samples
