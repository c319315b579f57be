"""Made-up samples, for runs that only time a step or compare machines."""

import numpy as np

from pock_tvm.artifact.description import TensorSpec


def draw(generator: np.random.Generator, tensor: TensorSpec, shape: tuple[int, ...]) -> np.ndarray:
    """Draw normal numbers, or integers that are valid for ``tensor``; bfloat16 as its bits."""
    if tensor.dtype.startswith(("int", "uint")):
        return generator.integers(0, tensor.limit or 2, shape).astype(tensor.dtype)
    if tensor.dtype == "bfloat16":  # the upper half of a float32
        return (generator.standard_normal(shape, "float32").view(np.uint32) >> 16).astype("uint16")
    return generator.standard_normal(shape).astype(tensor.dtype)
