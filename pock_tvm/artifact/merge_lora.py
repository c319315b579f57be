"""Put the factors of low-rank adaptation into the weights that they adapt; numpy alone.

W ← W + scale · A @ B, computed in float64 and rounded once.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np


def merge_lora(
    update: Mapping[str, Any], tensors: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return the tensors of a model as its own graph reads them, without factors.

    Args:
        update: the ``update`` of an artifact's description.
        tensors: weights, in the model's own layouts, and factors by name.
    """
    merged = dict(tensors)
    for name, done in update.get("tensors", {}).items():
        if done["kind"] == "lora" and name in merged:
            a, b = (merged.pop(done[factor]) for factor in ("a", "b"))
            merged[name] = merged_weight(
                merged[name], a, b, scale=done["scale"], transposed=done["transposed"]
            )
    return merged


def merged_weight(
    weight: np.ndarray, a: np.ndarray, b: np.ndarray, *, scale: float, transposed: bool
) -> np.ndarray:
    """Return W + scale · A @ B in the layout of ``weight``.

    Args:
        weight: [in, out], or [out, in] where ``transposed``; axes of extent one beside.
        a: [in, rank].
        b: [rank, out].
        scale: alpha / rank.
        transposed: whether the outputs come first.
    """
    if not b.any():
        return weight  # to the bit: a sum with zero would lose the sign of -0.0
    product = scale * (a.astype("float64") @ b.astype("float64"))
    product = (product.T if transposed else product).reshape(weight.shape)
    return (weight.astype("float64") + product).astype(weight.dtype)
