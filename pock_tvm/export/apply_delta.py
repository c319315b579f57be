"""Put a delta on the model that it was made from."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pock_tvm.artifact.export import write_tensors
from pock_tvm.errors import ArtifactError, PockError
from pock_tvm.export.delta import Delta
from pock_tvm.export.low_rank import LowRankChange
from pock_tvm.export.parse_delta import read_delta
from pock_tvm.export.tensors import read_trained, read_with_metadata


def apply_delta(
    base: str | os.PathLike[str], delta: str | os.PathLike[str], output: str | os.PathLike[str]
) -> Delta:
    """Write ``base`` with the delta's values, in the format of ``base``.

    Args:
        base: the untrained model: a ``.safetensors`` file, a PyTorch state dict, an ``.onnx`` file,
            or the folder of an artifact, which becomes a checkpoint of it at step 0.
        delta: a file of ``pock export --format delta``.
        output: the file to write.

    Returns:
        The delta.

    Raises:
        ArtifactError: the delta is damaged, or made for another model; nothing is written.
    """
    found = read_delta(delta)
    source = Path(base)
    if not source.exists():
        raise ArtifactError(f"no such file or folder: {source}")
    write = _to_artifact if source.is_dir() else _WRITERS.get(source.suffix)
    if write is None:
        raise ArtifactError(
            f"cannot tell what {source} is; a delta goes on {', '.join(_WRITERS)}, or an artifact"
        )
    try:
        write(source, found, Path(output))
    except ModuleNotFoundError as error:
        raise PockError(
            f"{source} needs {error.name}; install it with: pip install 'pock-tvm[torch,onnx]'"
        ) from error
    return found


def _to_safetensors(base: Path, delta: Delta, output: Path) -> None:
    tensors, metadata = read_with_metadata(base)
    write_tensors({**tensors, **_new_values(delta, tensors, base)}, {}, metadata, output)


def _to_torch(base: Path, delta: Delta, output: Path) -> None:
    import torch

    from pock_tvm.export.torch_file import as_arrays, read_state_dict, save

    state = read_state_dict(base)
    for name, value in _new_values(delta, as_arrays(state), base).items():
        state[name].copy_(torch.from_numpy(value))  # in place: tied names stay one tensor
    save(state, output)


def _to_onnx(base: Path, delta: Delta, output: Path) -> None:
    from pock_tvm.export.onnx_file import initializers, read_onnx, with_values, write_onnx

    model = read_onnx(base)
    write_onnx(with_values(model, _new_values(delta, initializers(model), base)), output)


def _to_artifact(base: Path, delta: Delta, output: Path) -> None:
    from pock_tvm.trainer import Trainer

    trained = read_trained(base)
    values = _new_values(delta, trained.initial, base)
    adapted = trained.description.update.get("tensors", {})
    learned: dict[str, np.ndarray] = {}
    for change in delta.changes:
        done = adapted.get(change.name, {})
        if isinstance(change, LowRankChange) and done.get("kind") == "lora":
            learned |= _factors(change, done, base)
        else:
            learned[change.name] = values[change.name]
    with Trainer(base, threads=1) as trainer:
        trainer.load_weights(learned)
        trainer.save_checkpoint(output)


def _factors(change: LowRankChange, done: Mapping[str, Any], base: Path) -> dict[str, np.ndarray]:
    """Return the factors by the names that they have in an artifact that adapts the same weight."""
    if (change.rank, change.alpha) != (done["rank"], done["alpha"]):
        raise ArtifactError(
            f"the delta adapts {change.name!r} with rank {change.rank} and alpha {change.alpha:g}, "
            f"{base} with rank {done['rank']} and alpha {done['alpha']:g}; compile BASE with the "
            "delta's, or with an update in which the weight itself learns"
        )
    return {done["a"]: change.a, done["b"]: change.b}


def _new_values(
    delta: Delta, tensors: Mapping[str, np.ndarray], base: Path
) -> dict[str, np.ndarray]:
    delta.check_base(tensors, base)
    return delta.applied(tensors)


_WRITERS: dict[str, Callable[[Path, Delta, Path], None]] = {
    ".safetensors": _to_safetensors,
    ".pt": _to_torch,
    ".pth": _to_torch,
    ".bin": _to_torch,
    ".onnx": _to_onnx,
}
