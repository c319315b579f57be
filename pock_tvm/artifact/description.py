"""What an artifact says about itself: pure data, for the compiler, the linker and the loader."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from pock_tvm import __version__

Region = Literal["frozen", "state", "arena"]
Role = Literal[
    "weight",
    "optimizer",
    "statistic",
    "constant",
    "input",
    "label",
    "hyper",
    "output",
    "counter",
    "accumulator",
]
EntryName = Literal["train_step", "evaluate", "predict", "accumulate"]

REGIONS: tuple[Region, ...] = get_args(Region)
ROLES: tuple[Role, ...] = get_args(Role)
ENTRIES: tuple[EntryName, ...] = get_args(EntryName)

RANDOM_COUNTER = "random.counter"
"""Where dropout's masks come from: two int64, the seed and how many batches have drawn masks."""

ACCUMULATION_COUNT = "accumulation.count"
"""How many micro-batches wait in the accumulators for an update: one int32."""

ALIGNMENT = 64
"""Every tensor starts at a multiple of this in its region: one cache line, one AVX-512 register."""

ITEM_BYTES = {
    "bool": 1,
    "uint8": 1,
    "int8": 1,
    "float16": 2,
    "bfloat16": 2,
    "int16": 2,
    "float32": 4,
    "int32": 4,
    "float64": 8,
    "int64": 8,
}
"""Bytes of one element, for every dtype that a tensor of an artifact may have."""


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One tensor: what it is, and where it lies."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    """As stored, after ``axes``."""
    region: Region
    offset: int
    """Bytes from the start of the region."""
    role: Role
    trainable: bool = False
    axes: tuple[int, ...] | None = None
    """``stored = original.transpose(axes)``; None where it is stored as the model has it."""
    panel: int | None = None
    """Columns of a panel: after ``axes`` the last axis is cut in pieces of so many, and the number
    of the piece put first; None where it is whole."""
    limit: int | None = None
    """Valid integers are 0 … limit - 1: the vocabulary for token ids, the classes for labels."""
    ignore: int | None = None
    """The one label outside the limit that is allowed, and that the loss skips."""

    @property
    def nbytes(self) -> int:
        """Bytes that the elements take, without the gap after them."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]

    @property
    def original_shape(self) -> tuple[int, ...]:
        """Shape in the model that was compiled, before ``axes`` and ``panel``."""
        shape = self.shape
        if self.panel is not None:
            shape = (*shape[1:-1], shape[0] * shape[-1])
        if self.axes is None:
            return shape
        return tuple(shape[self.axes.index(axis)] for axis in range(len(self.axes)))


@dataclass(frozen=True, kw_only=True)
class EntryPoint:
    """One C symbol of the object; reads and writes the named tensors of the arena."""

    name: EntryName
    symbol: str
    kernel_calls: int
    inputs: tuple[str, ...]
    """Every arena tensor to be filled before the call, the labels and learning rate among them."""
    outputs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Regions:
    """Sizes in bytes; each is a multiple of the alignment."""

    frozen_bytes: int
    state_bytes: int
    trainable_bytes: int
    """The part at the start of the state that has initial values; the rest starts at zero."""
    arena_bytes: int
    """Inputs, outputs and transients, without the kernels' workspace."""
    workspace_bytes_per_thread: int
    arena_lower_bound_bytes: int
    """Largest set of transients that live at the same time."""


@dataclass(frozen=True, kw_only=True)
class ArtifactDescription:
    """Everything that the manifest, the generated C tables and the trainer need to know."""

    target: str
    tvm_options: Mapping[str, Any]
    model: str
    loss: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    update: Mapping[str, Any]
    batch: int
    regions: Regions
    tensors: tuple[TensorSpec, ...]
    entries: tuple[EntryPoint, ...]
    plan: Mapping[str, Any] = field(default_factory=dict)
    """Every kernel call, tensor, offset and life time of each entry point; goes to plan.json."""
    dropout: bool = False
    """Whether training drops out; prediction and evaluation never do."""
    precision: str = "fp32"
    """What matrix products round their operands to; everything in memory is as its dtype says."""
    accumulate: int = 1
    """Micro-batches of ``batch`` samples in one optimizer step."""
    model_sha256: str = ""
    """Of the model's tensors before compilation, see ``fingerprint.py``."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Further names of tied tensors: {other name: the name it is listed by}."""
    created_by: str = __version__

    def tensor(self, name: str) -> TensorSpec:
        """Return the tensor of that name; KeyError where there is none."""
        for tensor in self.tensors:
            if tensor.name == name:
                return tensor
        raise KeyError(name)

    def entry(self, name: str) -> EntryPoint | None:
        """Return the entry point of that name, None where the artifact was built without it."""
        return next((entry for entry in self.entries if entry.name == name), None)

    def in_region(self, region: Region) -> tuple[TensorSpec, ...]:
        """Return the tensors of one region by offset."""
        inside = (tensor for tensor in self.tensors if tensor.region == region)
        return tuple(sorted(inside, key=lambda tensor: (tensor.offset, tensor.name)))

    @property
    def sample_tensors(self) -> tuple[TensorSpec, ...]:
        """What one record of a data file holds: the model's inputs in manifest order, the label."""
        inputs = [tensor for tensor in self.tensors if tensor.role == "input"]
        return (*inputs, *(tensor for tensor in self.tensors if tensor.role == "label"))

    def initialized(self, tensor: TensorSpec) -> bool:
        """Say whether the tensor has a value in the weights file."""
        return tensor.region == "frozen" or (
            tensor.region == "state" and tensor.offset < self.regions.trainable_bytes
        )
