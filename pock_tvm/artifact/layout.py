"""The rules that offsets obey; the writer asserts them, the loader refuses what breaks them."""

from collections.abc import Iterator

from pock_tvm.artifact.description import (
    ACCUMULATION_COUNT,
    ALIGNMENT,
    ITEM_BYTES,
    REGIONS,
    ROLES,
    ArtifactDescription,
    Region,
    TensorSpec,
)

_PAD = "pad."
_MOST_AXES = 32
"""What every numpy can hold."""
_SCALARS = {"loss": "float32", "correct": "int32", "learning_rate": "float32"}
"""Tensors of the arena that the runtime reads and writes itself."""


def layout_problem(description: ArtifactDescription) -> str | None:
    """Return one line about the first rule that the tensors or entry points break, or None."""
    names = [tensor.name for tensor in description.tensors]
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        return f"tensor {twice[0]!r} is listed twice"
    return next((problem for problem in _problems(description) if problem), None)


def region_bytes(description: ArtifactDescription, region: Region) -> int:
    """Return the size of a region; the arena without its workspace."""
    regions = description.regions
    return {
        "frozen": regions.frozen_bytes,
        "state": regions.state_bytes,
        "arena": regions.arena_bytes,
    }[region]


def _problems(description: ArtifactDescription) -> Iterator[str | None]:
    """Check one rule after another; a later one relies on those before it."""
    yield _size_problem(description)
    for tensor in description.tensors:
        yield _tensor_problem(description, tensor)
    for region in REGIONS[:2]:  # tensors of the arena take turns
        yield _overlap_problem(description, region)
    yield _entry_problem(description)


def _size_problem(description: ArtifactDescription) -> str | None:
    regions = description.regions
    for field in ("frozen", "state", "trainable", "arena"):
        size = getattr(regions, f"{field}_bytes")
        if size < 0 or size % ALIGNMENT:
            return f"{field}_bytes is {size}, not a multiple of {ALIGNMENT}"
    if regions.workspace_bytes_per_thread < 0:
        return "workspace_bytes_per_thread is negative"
    if regions.trainable_bytes > regions.state_bytes:
        return "trainable_bytes exceeds state_bytes"
    if description.accumulate < 1:
        return f"accumulate is {description.accumulate}"
    return None if description.batch > 0 else "the batch is empty"


def _tensor_problem(description: ArtifactDescription, tensor: TensorSpec) -> str | None:
    where = f"tensor {tensor.name!r}"
    if not tensor.name or tensor.name.startswith(_PAD) or not tensor.name.isprintable():
        return f"{where} has a name that is reserved or not printable"
    if tensor.dtype not in ITEM_BYTES:
        return f"{where} has the unknown dtype {tensor.dtype!r}"
    if tensor.region not in REGIONS or tensor.role not in ROLES:
        return f"{where} has the unknown region or role {tensor.region!r}, {tensor.role!r}"
    if len(tensor.shape) > _MOST_AXES:
        return f"{where} has {len(tensor.shape)} axes; up to {_MOST_AXES} work"
    rank = len(tensor.shape)
    if tensor.panel is not None:
        rank -= 1
        if tensor.region != "frozen" or rank < 2 or tensor.shape[-1] != tensor.panel:
            return f"{where} has panels of {tensor.panel} columns, which its place or shape forbid"
    if tensor.axes is not None and sorted(tensor.axes) != list(range(rank)):
        return f"{where} has axes {tensor.axes} that do not permute its shape {tensor.shape}"
    if tensor.offset < 0 or tensor.offset % ALIGNMENT or any(size < 0 for size in tensor.shape):
        return f"{where} lies at {tensor.offset}, not a multiple of {ALIGNMENT}"
    if tensor.offset + tensor.nbytes > region_bytes(description, tensor.region):
        return f"{where} ends outside the {tensor.region} region"
    if tensor.limit is not None and tensor.dtype not in ("int32", "int64"):
        return f"{where} has a limit, but is {tensor.dtype}; only int32 and int64 are checked"
    if tensor.region == "arena" and tensor.name in _SCALARS:
        wanted = _SCALARS[tensor.name]
        if (tensor.dtype, tensor.nbytes) != (wanted, ITEM_BYTES[wanted]):
            return f"{where} is not one {wanted}"
    batched = tensor.role in ("input", "label")
    if batched and (not tensor.shape or tensor.shape[0] != description.batch):
        return f"{where} has shape {tensor.shape}, but the batch is {description.batch}"
    if batched and tensor.axes is not None and tensor.axes[0] != 0:
        return f"{where} does not keep the batch as its first axis"
    return None


def _overlap_problem(description: ArtifactDescription, region: Region) -> str | None:
    end, last = 0, ""
    split = description.regions.trainable_bytes if region == "state" else 0
    for tensor in description.in_region(region):
        if tensor.offset < end:
            return f"tensors {last!r} and {tensor.name!r} overlap in the {region} region"
        end, last = tensor.offset + tensor.nbytes, tensor.name
        if tensor.offset < split < end:
            return f"tensor {tensor.name!r} crosses the end of the trainable part"
    return None


def _entry_problem(description: ArtifactDescription) -> str | None:
    names = {tensor.name for tensor in description.tensors}
    arena = {tensor.name for tensor in description.in_region("arena")}
    for entry in description.entries:
        for name in (*entry.inputs, *entry.outputs):
            if name not in arena:
                where = "outside the arena" if name in names else "which is not listed"
                return f"entry point {entry.name!r} uses tensor {name!r}, {where}"
        wanted = {
            "train_step": ("learning_rate", "loss"),
            "evaluate": ("loss",),
            "accumulate": ("loss",),
        }
        for name in wanted.get(entry.name, ()):
            if name not in (*entry.inputs, *entry.outputs):
                return f"entry point {entry.name!r} lacks the tensor {name!r}"
    if description.accumulate > 1:
        counts = [t for t in description.tensors if t.name == ACCUMULATION_COUNT]
        if [(t.region, t.dtype, t.nbytes) for t in counts] != [("state", "int32", 4)]:
            return f"{ACCUMULATION_COUNT!r} is not one int32 of the state"
        if description.entry("accumulate") is None:
            return "there is no entry point 'accumulate'"
    return None if description.entries else "there is no entry point"
