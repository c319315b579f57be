"""PyTorch state dicts: plain tensors by name, written by ``torch.save``, never unpickled."""

import os
import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from pock_tvm.artifact.fresh_file import fresh_file
from pock_tvm.errors import ArtifactError
from pock_tvm.export.tensors import TrainedModel


def write_state_dict(trained: TrainedModel, path: str | os.PathLike[str]) -> None:
    """Write a state dict that the module which was compiled loads with ``strict=True``.

    Tied tensors stand under all of their names and share their memory, in the file too.
    """
    arrays = {**trained.unused, **trained.tuned}
    state = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
    for other, name in trained.description.aliases.items():
        state[other] = state[name]
    save(state, path)


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict; nothing in it is unpickled but tensors.

    Raises:
        ArtifactError: it cannot be read, or holds anything but tensors by name.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ArtifactError(f"no such file: {path}") from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError):
        raise ArtifactError(
            f"{path} is not a file that torch.load reads with weights_only=True; "
            "write it with torch.save(module.state_dict(), path)"
        ) from None
    if not isinstance(state, Mapping) or not all(
        isinstance(v, torch.Tensor) for v in state.values()
    ):
        raise ArtifactError(
            f"{path} is not a state dict of tensors; write torch.save(module.state_dict(), path)"
        )
    return {str(name): value.detach() for name, value in state.items()}


def as_arrays(state: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Look at tensors through numpy, those that it has a dtype for."""
    return {name: v.numpy() for name, v in state.items() if v.dtype != torch.bfloat16}


def save(state: Mapping[str, torch.Tensor], path: str | os.PathLike[str]) -> None:
    """Write tensors by name."""
    with fresh_file(path) as fresh:
        try:
            torch.save(dict(state), fresh)
        except RuntimeError as error:  # its file writer wraps what the system said
            raise ArtifactError(f"cannot write {path}: {str(error).splitlines()[0]}") from None
