"""One step of the compiled artifact: it changes what was asked for, by what float64 says."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pock_tvm.trainer import Trainer
from pock_tvm.update import Update, lora_names

TOLERANCE = 2e-2
"""Of a tensor's change in float32: a net with kinks flips the sign of an activation now and then,
and each flip moves a gradient by up to 1e-2; smooth nets stay below 1e-4."""
_NOTEWORTHY = 1e-3
"""Gradients below this share of the root mean square are rounding: an adaptive optimizer makes full
steps of them, in either direction."""
_HALF_ULP = 2.0**-24


def step_once(
    artifact: Path, samples: Mapping[str, np.ndarray], rate: float
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return all weights and statistics before and after one step, in the model's own layouts."""
    inputs = {name: value for name, value in samples.items() if name != "labels"}
    with Trainer(artifact, threads=1) as trainer:
        names = [t.name for t in trainer.description.tensors if t.role in ("weight", "statistic")]
        before = {name: trainer.tensor(name) for name in names}
        trainer.step(inputs, samples.get("labels"), rate)
        after = {name: trainer.tensor(name) for name in names}
    return before, after


def factors_of(update: Update) -> list[str]:
    """Return the names of all low-rank factors, which learn in place of their weights."""
    return [name for weight in update.lora for name in lora_names(weight)]


def may_change(
    name: str, shape: tuple[int, ...], update: Update, moving: tuple[str, ...]
) -> np.ndarray:
    """Return True where the scheme lets a step change a tensor."""
    allowed = np.zeros(shape, bool)
    if name in update.channels:
        chosen = update.channels[name]
        allowed[(slice(None),) * chosen.axis + (list(chosen.channels),)] = True
    elif name in {*update.whole, *factors_of(update), *moving}:
        allowed[...] = True
    return allowed


def change_problems(
    before: np.ndarray, after: np.ndarray, allowed: np.ndarray, gradient: np.ndarray | None
) -> list[str]:
    """Compare bits: nothing outside the scheme changed, and something inside it did."""
    changed = before.view(f"u{before.itemsize}") != after.view(f"u{after.itemsize}")
    stray = int(np.count_nonzero(changed & ~allowed))
    problems = [f"{stray} values changed that are frozen"] if stray else []
    expected = gradient is not None and bool(np.any(gradient[allowed]))
    if expected and not (changed & allowed).any():
        problems.append("nothing changed")
    return problems


def step_error(
    before: np.ndarray, after: np.ndarray, wanted: np.ndarray, gradient: np.ndarray | None
) -> tuple[float, bool]:
    """Compare a step in float32 with one in float64.

    Returns:
        The error relative to the change, and whether it is within the tolerance.
    """
    counted = np.ones(before.shape, bool)
    if gradient is not None:
        counted = np.abs(gradient) >= _NOTEWORTHY * np.sqrt(np.mean(np.square(gradient)))
    start = before[counted].astype("float64")
    change = wanted[counted] - start
    error = float(np.linalg.norm(after[counted] - wanted[counted]))
    size = float(np.linalg.norm(change))
    stored = 2 * _HALF_ULP * float(np.linalg.norm(wanted[counted]))
    return (error / size if size else 0.0), error <= TOLERANCE * size + stored
