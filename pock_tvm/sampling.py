"""Which samples a step draws: a function of the seed and the position, so that no state is kept."""

import functools

import numpy as np

from pock_tvm.errors import BatchError


def samples_at(seed: int, count: int, start: int, size: int) -> np.ndarray:
    """Return the indices of samples ``start`` … ``start + size - 1`` of an endless run.

    The run is one shuffled epoch after another, so every sample is drawn once before any is drawn
    again; a batch may reach from one epoch into the next.
    """
    positions = np.arange(start, start + size)
    epochs = positions // count
    pieces = [
        _epoch(seed, count, int(epoch))[positions[epochs == epoch] % count]
        for epoch in np.unique(epochs)
    ]
    return np.concatenate(pieces)


@functools.lru_cache(maxsize=2)
def _epoch(seed: int, count: int, epoch: int) -> np.ndarray:
    """Shuffle by sorting random keys; Philox takes the epoch as its counter, so none is skipped."""
    generator = np.random.Philox(key=seed, counter=[0, 0, 0, epoch])
    return np.argsort(generator.random_raw(count), kind="stable")


def run_length(epochs: float | None, steps: int | None, count: int, per_step: int) -> int:
    """Return the steps of a run, given either as such or as how often each sample is drawn."""
    if (epochs is None) == (steps is None):
        raise BatchError("give fit either epochs or steps")
    if steps is not None:
        return steps
    assert epochs is not None
    return int(-(-epochs * count // per_step))
