"""Cheaper guesses of what a weight gains, from gradients at the trained weights.

With g_b the gradient of batch b and ḡ their mean:

    gradient   ‖ḡ‖
    fisher     Σ E_b[g_b²], the trace of the empirical Fisher information of batches
    snr        ‖ḡ‖² / Σ Var_b[g_b]: how much of the gradient the batches agree on
"""

from collections.abc import Mapping, Sequence

import numpy as np

from pock_tvm.artifact.batch import Inputs
from pock_tvm.sampling import samples_at
from pock_tvm.search.contributions import Contribution, rank_correlation
from pock_tvm.search.masked_trainer import MaskedTrainer
from pock_tvm.search.space import Space

ESTIMATORS = ("gradient", "fisher", "snr")


def estimate(
    trainer: MaskedTrainer,
    inputs: Mapping[str, np.ndarray] | np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    *,
    batches: int,
    seed: int,
) -> dict[str, dict[str, float]]:
    """Return, by estimator, a guess for each tensor.

    Args:
        trainer: of an artifact that keeps its gradients.
        inputs: of all samples.
        labels: of all samples.
        names: of the tensors.
        batches: how many gradients to take.
        seed: of which samples.
    """
    trainer.restart({})
    sums = {name: np.zeros(0) for name in names}
    squares = dict(sums)
    for index in range(batches):
        chosen = samples_at(seed, len(labels), index * trainer.batch, trainer.batch)
        trainer.step(_some(inputs, chosen), labels[chosen], 0.0)
        for name in names:
            gradient = trainer.tensor(f"gradient.{name}", original_layout=False).astype(float)
            before = sums[name] if index else 0.0
            sums[name] = before + gradient
            squares[name] = (squares[name] if index else 0.0) + gradient**2
    trainer.restart()
    found: dict[str, dict[str, float]] = {name: {} for name in ESTIMATORS}
    for name in names:
        mean, square = sums[name] / batches, squares[name] / batches
        energy, fisher = float((mean**2).sum()), float(square.sum())
        found["gradient"][name] = energy**0.5
        found["fisher"][name] = fisher
        found["snr"][name] = energy / max(fisher - energy, 1e-30)
    return found


def beside_the_real_thing(
    space: Space,
    guesses: Mapping[str, Mapping[str, float]],
    found: Mapping[str, Contribution],
) -> dict[str, float]:
    """Return the rank correlation of each estimator with the measured gains of whole weights."""
    real = [found[f"{weight} at 1"].gain for weight in space.weights]
    return {
        name: rank_correlation([values[weight] for weight in space.weights], real)
        for name, values in guesses.items()
    }


def _some(inputs: Mapping[str, np.ndarray] | np.ndarray, chosen: np.ndarray) -> Inputs:
    if isinstance(inputs, Mapping):
        return {name: array[chosen] for name, array in inputs.items()}
    return inputs[chosen]
