"""Train an artifact of everything as if only a part of it learned.

After each step, what the mask leaves out gets the bits back that it had before the first one. For
an optimizer that moves every value by its own gradient and its own state alone, and a clipping
that looks at one value at a time, this *is* the run of the pruned artifact: the gradient of what
learns does not depend on what else learns. So one compilation serves every scheme of a search, at
the price of a full step each.
"""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from pock_tvm.artifact.description import TensorSpec
from pock_tvm.errors import UnknownNameError, UnsupportedModelError
from pock_tvm.trainer import Trainer

Mask = Mapping[str, Mapping[str, Any]]
"""What ``Update.describe`` returns: by tensor that learns, whole or in some channels."""


class MaskedTrainer(Trainer):
    """A trainer whose weights learn under a mask, and that can begin anew."""

    def __init__(self, artifact: str | os.PathLike[str], threads: int | None = None) -> None:
        super().__init__(artifact, threads)
        options = self.description.optimizer
        clip = str(options.get("clip") or "value")
        if options.get("name") == "adafactor" or not clip.startswith("value"):
            raise UnsupportedModelError(
                "what one value learns depends on others under Adafactor and under clipping by "
                "norms, so one compilation cannot stand for another; search with another optimizer"
            )
        state = self.description.in_region("state")
        self._initial = {t.name: self._session.view(t).copy() for t in state}
        self._state = {t.name: t for t in state}
        self._held: list[tuple[np.ndarray, Any, np.ndarray]] = []

    def restart(self, mask: Mask | None = None) -> None:
        """Take the first weights and an empty optimizer; learn what the mask names, or all.

        Raises:
            UnknownNameError: the mask names what does not learn in this artifact.
        """
        for name, tensor in self._state.items():
            np.copyto(self._session.view(tensor), self._initial[name])
        progress = self._session.progress
        progress.step = 0
        self._session.progress = progress
        self._held = [] if mask is None else self._held_by(mask)

    def __enter__(self) -> "MaskedTrainer":
        return self

    def _held_by(self, mask: Mask) -> list[tuple[np.ndarray, Any, np.ndarray]]:
        """Return (memory, index, values) of all that is to stay."""
        weights = {n: t for n, t in self._state.items() if t.role == "weight"}
        unknown = sorted(set(mask) - set(weights))
        if unknown:
            raise UnknownNameError(
                f"{unknown[0]} does not learn in {self.artifact.directory}, so no mask can let it"
            )
        held = []
        for name, tensor in weights.items():
            index = _outside(tensor, mask.get(name))
            if index is not None:
                view = self._session.view(tensor)
                held.append((view, index, self._initial[name][index]))
        return held

    def _batch(self, batch: Mapping[str, np.ndarray], rate: float) -> float:
        loss = super()._batch(batch, rate)
        for view, index, values in self._held:
            view[index] = values
        return loss


def _outside(tensor: TensorSpec, done: Mapping[str, Any] | None) -> Any:
    """Return the index of what is to stay of a tensor; None where all of it learns."""
    if done is None:
        return ...
    if done["kind"] == "whole":
        return None
    if done["kind"] != "channels":
        raise UnsupportedModelError(
            f"{tensor.name} learns by {done['kind']}, which needs an artifact of its own"
        )
    axis = done["axis"] if tensor.axes is None else tensor.axes.index(done["axis"])
    stays = np.setdiff1d(np.arange(done["of"]), done["channels"])
    return (*[slice(None)] * axis, stays)
