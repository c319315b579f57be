"""The tensors of an artifact, as it was compiled and as a checkpoint left them.

Nothing is run: an artifact for another machine is read like one for this.
"""

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from pock_tvm.artifact.c_tables import checkpoint_header
from pock_tvm.artifact.checkpoint import read_checkpoint
from pock_tvm.artifact.description import ArtifactDescription, TensorSpec
from pock_tvm.artifact.export import learned_tensors
from pock_tvm.artifact.load import Artifact, load_artifact
from pock_tvm.artifact.merge_lora import merge_lora
from pock_tvm.artifact.safetensors_header import data_offset
from pock_tvm.errors import ArtifactError

_COUNTERS = ("step", "cursor", "seed", "sha256")


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A model's tensors by their own names and in their own layouts."""

    artifact: Artifact
    steps: int
    initial: Mapping[str, np.ndarray]
    """As the model had them when it was compiled."""
    tuned: Mapping[str, np.ndarray]
    """The same tensors after the steps."""
    unused: Mapping[str, np.ndarray]
    """What the model holds besides, such as counters of batches; training does not touch it."""
    factors: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Of low-rank adaptation, by their own names; ``tuned`` holds their products already."""

    @property
    def description(self) -> ArtifactDescription:
        """What the artifact says about itself."""
        return self.artifact.description


def read_trained(
    directory: str | os.PathLike[str], checkpoint: str | os.PathLike[str] | None = None
) -> TrainedModel:
    """Read an artifact and, where one is given, a checkpoint of it.

    Raises:
        ArtifactError: one of them is damaged, or the checkpoint is another artifact's.
    """
    artifact = load_artifact(directory)
    description = artifact.description
    stored = read_tensors(artifact.weights)
    initial = merge_lora(description.update, learned_tensors(description, _view(stored)))
    steps = 0
    if checkpoint is not None:
        steps = read_checkpoint(checkpoint).step
        _check_header(artifact, Path(checkpoint))
        stored |= read_tensors(Path(checkpoint))
    learned = learned_tensors(description, _view(stored))
    tuned = merge_lora(description.update, learned)
    unused = artifact.unused
    return TrainedModel(
        artifact=artifact,
        steps=steps,
        initial=initial,
        tuned=tuned,
        unused=read_tensors(unused) if unused else {},
        factors={name: value for name, value in learned.items() if name not in tuned},
    )


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Read every tensor of a safetensors file; the library checks all sizes and offsets.

    Raises:
        ArtifactError: it cannot be read, or is not such a file.
    """
    return read_with_metadata(path)[0]


def read_with_metadata(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the tensors and the metadata of a safetensors file.

    Raises:
        ArtifactError: it cannot be read, or is not such a file.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118 (not a mapping)
    except FileNotFoundError:
        raise ArtifactError(f"no such file: {path}") from None
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}") from None
    except (SafetensorError, TypeError, KeyError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{path} is not a safetensors file that numpy reads: {error}") from None


def _view(stored: Mapping[str, np.ndarray]) -> Callable[[TensorSpec], np.ndarray]:
    return lambda tensor: stored[tensor.name]


def _check_header(artifact: Artifact, path: Path) -> None:
    """Compare the header, but for its counters, with what this artifact's runtime would write."""
    regions = artifact.description.regions
    with artifact.weights.open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        file.seek(start)
        frozen = hashlib.sha256(file.read(regions.frozen_bytes)).hexdigest()
    wanted = checkpoint_header(artifact.description, frozen)
    with path.open("rb") as file:
        found = file.read(data_offset(wanted))
    if _without_counters(found[8 : 8 + len(wanted)]) != _without_counters(wanted):
        raise ArtifactError(
            f"{path} is not a checkpoint of {artifact.directory}: its header differs"
        )


def _without_counters(header: bytes) -> bytes:
    """Blank the values of the fields that change from checkpoint to checkpoint."""
    for key in _COUNTERS:
        mark = f'"{key}":"'.encode()
        at = header.find(mark)
        if at >= 0:
            at += len(mark)
            end = header.find(b'"', at)
            header = header[:at] + b"0" * (end - at) + header[end:]
    return header
