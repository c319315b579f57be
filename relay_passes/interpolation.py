"""Tables of interpolation along one axis: which entries an output is made of, and with what weight.

Each returns (places, weights), both (outputs, taps), as ``pock.resample`` reads them. Outputs ask
for a position x between the entries; what lies outside counts as the entry at the border.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

Tables: TypeAlias = tuple[np.ndarray, np.ndarray]


def nearest(places: np.ndarray, extent: int) -> Tables:
    """Each output is the one entry at its place."""
    at = np.clip(places.astype("int64"), 0, extent - 1)
    return at[:, None], np.ones((len(at), 1))


def linear(positions: np.ndarray, extent: int) -> Tables:
    """(1 - t) x₀ + t x₁ between the two entries around each position."""
    first = np.floor(positions)
    t = positions - first
    places = np.stack([first, first + 1], axis=1).astype("int64")
    return np.clip(places, 0, extent - 1), np.stack([1 - t, t], axis=1)


def cubic(
    positions: np.ndarray, extent: int, a: float = -0.75, *, exclude_outside: bool = False
) -> Tables:
    """Cubic convolution of the four entries around each position (Keys, 1981)."""
    first = np.floor(positions)
    t = positions - first
    places = np.stack([first + k for k in (-1, 0, 1, 2)], axis=1).astype("int64")
    weights = np.stack([_keys(t - k, a) for k in (-1, 0, 1, 2)], axis=1)
    if exclude_outside:
        weights = np.where((places < 0) | (places >= extent), 0, weights)
        weights /= weights.sum(axis=1, keepdims=True)
    return np.clip(places, 0, extent - 1), weights


def antialiased(extent: int, outputs: int, scale: float, *, cubic_filter: bool) -> Tables:
    """Each output is the mean of what its filter covers, stretched by ``scale`` where that is > 1.

    The filter is a triangle, or Keys' cubic with a = -½, as Pillow and PyTorch have them.
    """
    radius = 2.0 if cubic_filter else 1.0
    stretch = max(scale, 1.0)
    rows = []
    for output in range(outputs):
        centre = scale * (output + 0.5)
        begin = max(int(centre - radius * stretch + 0.5), 0)
        end = min(int(centre + radius * stretch + 0.5), extent)
        at = np.arange(begin, end)
        distance = (at - centre + 0.5) / stretch
        weight = _keys(distance, -0.5) if cubic_filter else np.maximum(1 - np.abs(distance), 0)
        rows.append((at, weight / weight.sum()))
    taps = max(len(at) for at, _ in rows)
    places = np.zeros((outputs, taps), "int64")
    weights = np.zeros((outputs, taps))
    for output, (at, weight) in enumerate(rows):
        places[output, : len(at)], weights[output, : len(at)] = at, weight
    return places, weights


def _keys(x: np.ndarray, a: float) -> np.ndarray:
    """Keys' kernel: (a+2)|x|³ - (a+3)|x|² + 1 within 1, a(|x|³ - 5|x|² + 8|x| - 4) within 2."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


POSITIONS: dict[str, Callable[[np.ndarray, int, int], np.ndarray]] = {
    "half_pixel": lambda o, n, m: (o + 0.5) * (n / m) - 0.5,
    "pytorch_half_pixel": lambda o, n, m: (o + 0.5) * (n / m) - 0.5 if m > 1 else 0.0 * o,
    "align_corners": lambda o, n, m: o * ((n - 1) / (m - 1)) if m > 1 else 0.0 * o,
    "asymmetric": lambda o, n, m: o * (n / m),
    "tf_half_pixel_for_nn": lambda o, n, m: (o + 0.5) * (n / m),
}
"""ONNX's name -> (outputs, entries n, outputs' number m) -> positions."""

ROUNDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round": np.round,
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
}
"""Relax's name -> position -> place of the nearest entry."""


def torch_positions(
    extent: int, outputs: int, factor: float | None, *, align_corners: bool
) -> np.ndarray:
    """Return where PyTorch looks between entries; a given scale factor outweighs the sizes."""
    o = np.arange(outputs, dtype="float64")
    if align_corners:
        return POSITIONS["align_corners"](o, extent, outputs)
    return (o + 0.5) * torch_scale(extent, outputs, factor) - 0.5


def torch_nearest(extent: int, outputs: int, factor: float | None, *, exact: bool) -> np.ndarray:
    """Return the entry that PyTorch takes for each output; it computes in float32."""
    scale = np.float32(torch_scale(extent, outputs, factor))
    o = np.arange(outputs, dtype="float32") + np.float32(0.5 if exact else 0)
    return np.floor(o * scale)


def torch_scale(extent: int, outputs: int, factor: float | None) -> float:
    """Return how many entries one output stands for."""
    return 1 / factor if factor and math.isfinite(factor) else extent / outputs
