"""Central differences of the loss in float64, one tensor at a time, along a few directions.

The derivative along v is compared with ⟨g, v⟩. Half of v is the gradient itself, so that the
derivative is not lost in rounding; half is random, so that what is missing from g shows. The error
is relative to ‖g‖. A step h too long leaves the smooth piece of a net with kinks, one too short
loses digits to rounding: four are tried, and a right gradient agrees at one of them. A wrong one
agrees at none but by a chance of the order of the tolerance.
"""

from collections.abc import Callable

import numpy as np

TOLERANCE = 1e-6
"""Central differences err by h²; at h = 1e-5 that is 1e-10 times the third derivative."""
ROUNDING = 64 * float(np.finfo(np.float64).eps)
"""What the loss itself is uncertain by, relative to its size: sums of many terms."""
_STEPS = (1e-4, 1e-5, 1e-6, 1e-7)


def directional_error(
    loss: Callable[[np.ndarray], float],
    at: np.ndarray,
    gradient: np.ndarray,
    directions: int,
    generator: np.random.Generator,
) -> tuple[float, bool]:
    """Compare a gradient with central differences.

    Args:
        loss: of the tensor's values.
        at: those values.
        gradient: to check.
        directions: how many.
        generator: draws them.

    Returns:
        The largest error relative to the gradient, and whether all are within the tolerance.
    """
    norm = float(np.linalg.norm(gradient))
    scale = max(1.0, float(np.linalg.norm(at)) / np.sqrt(at.size))
    worst, right = 0.0, True
    for _ in range(directions):
        v = generator.standard_normal(at.shape)
        v /= np.linalg.norm(v)
        if norm:
            v += gradient / norm
            v /= np.linalg.norm(v)
        found = [_error(loss, at, gradient, v, h * scale) for h in _STEPS[:1]]
        for h in _STEPS[1:]:
            if any(error <= allowed for error, allowed in found):
                break
            found.append(_error(loss, at, gradient, v, h * scale))
        error, allowed = min(found, key=lambda pair: pair[0] - pair[1])
        right = right and error <= allowed
        worst = max(worst, error / norm if norm else (0.0 if error <= allowed else np.inf))
    return worst, right


def _error(
    loss: Callable[[np.ndarray], float],
    at: np.ndarray,
    gradient: np.ndarray,
    v: np.ndarray,
    h: float,
) -> tuple[float, float]:
    """Return the error of ⟨g, v⟩, and what arithmetic allows."""
    above, below = loss(at + h * v), loss(at - h * v)
    error = abs((above - below) / (2 * h) - float(np.vdot(gradient, v)))
    rounding = ROUNDING * max(abs(above), abs(below)) / h
    return error, TOLERANCE * float(np.linalg.norm(gradient)) + rounding
