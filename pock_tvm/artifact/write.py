"""Write an artifact: weights, tables, binaries, manifest; all of it or nothing."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pock_tvm.artifact import link, machine, manifest
from pock_tvm.artifact.c_tables import WeightsFile, c_sizes, c_tables, weights_section
from pock_tvm.artifact.description import ArtifactDescription
from pock_tvm.artifact.export import write_tensors
from pock_tvm.artifact.layout import layout_problem
from pock_tvm.artifact.link_shared import library_name, link_library
from pock_tvm.artifact.load import Artifact, file_sha256, load_artifact
from pock_tvm.artifact.safetensors_header import data_offset, file_start, header_json
from pock_tvm.errors import ArtifactError

if TYPE_CHECKING:
    from pock_tvm.targets import TargetSpec  # imports tvm, which this module does without


def write_artifact(
    directory: str | os.PathLike[str],
    description: ArtifactDescription,
    objects: Sequence[bytes],
    values: Mapping[str, np.ndarray],
    spec: "TargetSpec",
    *,
    executable: bool,
    library: bool,
    sources: Mapping[str, str] | None = None,
    unused: Mapping[str, np.ndarray] | None = None,
    extra: Mapping[str, bytes] | None = None,
) -> Artifact:
    """Write the folder beside its final place, then rename it there.

    Args:
        directory: the artifact's folder; replaced if it holds an artifact already.
        description: what the compiler planned.
        objects: relocatable objects with the entry points and kernels; ``step.o`` holds them all.
        values: contents of every frozen tensor and of the trainable part of the state, as stored.
        spec: the machine to link for.
        executable: also link the standalone ``pock_train``.
        library: also link ``libpock_model.so`` (for Macs ``.dylib``), for the trainer or a program
            of the user's.
        sources: generated C files by name; compiled into ``step.o``, and kept beside the runtime's.
        unused: what the model holds besides; kept in a file of its own, so that an export is whole.
        extra: contents of further files, by name.

    Raises:
        ArtifactError: the folder exists and is not an artifact, or it cannot be written.
        BuildError: zig could not link.
        ValueError: the description breaks a rule of the layout: a bug of the compiler.
    """
    problem = layout_problem(description)
    if problem:
        raise ValueError(problem)
    final = Path(directory).absolute()
    refuse_foreign_folder(final)
    with replaced_folder(final) as folder:
        weights = _write_weights(folder / "weights.safetensors", description, values)
        if unused:
            write_tensors(unused, {}, {"format": "pt"}, folder / "unused.safetensors")
        features = machine.required_features(
            description.target, description.tvm_options, description.precision
        )
        body = manifest.describe(description, features)
        artifact_id = manifest.canonical_sha256({**body, "weights_sha256": weights.sha256})
        tables = c_tables(
            description, artifact_id, weights, features, has_device=spec.device is not None
        )
        generated = {"pock_artifact.c": tables, **(sources or {})}
        if not spec.has_system:
            generated["pock_sizes.h"] = c_sizes(description, weights)
            generated["pock_weights.S"] = weights_section(weights)
        _write_sources(folder / "runtime", generated, spec)
        compiled = [
            link.compile_object(folder / "runtime" / name, spec.zig_target)
            for name in sources or ()
        ]
        link.merge_objects([*objects, *compiled], folder / "step.o", spec.zig_target)
        linked = (folder / "step.o", folder / "runtime" / "pock_artifact.c")
        if library:
            system = str(description.tvm_options["mtriple"])
            link_library(*linked, folder / library_name(system), spec, system)
        if executable:
            link.link_executable(*linked, folder / "pock_train", spec)
        for name, content in (extra or {}).items():
            (folder / name).write_bytes(content)
        (folder / "plan.json").write_text(json.dumps(description.plan, indent=1), encoding="utf-8")
        document = manifest.finish(body, artifact_id, _file_table(folder))
        (folder / "manifest.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    return load_artifact(final)


def refuse_foreign_folder(final: Path) -> None:
    """Raise ArtifactError where writing an artifact to ``final`` would harm something else."""
    if not final.parent.is_dir():
        raise ArtifactError(f"cannot write {final}: the folder {final.parent} does not exist")
    if final.is_symlink() or (final.exists() and not final.is_dir()):
        raise ArtifactError(f"{final} exists and is not a folder; choose another place")
    if final.is_dir() and any(final.iterdir()) and not _is_artifact(final):
        raise ArtifactError(f"{final} exists and is not an artifact; choose another place")


def _is_artifact(folder: Path) -> bool:
    try:
        found = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("format") == manifest.FORMAT


@contextlib.contextmanager
def replaced_folder(final: Path) -> Iterator[Path]:
    """Yield a fresh folder that takes the place of ``final`` if the block succeeds."""
    try:
        fresh = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
    except OSError as error:
        raise ArtifactError(f"cannot write {final}: {error.strerror}") from None
    fresh.chmod(0o755)
    try:
        yield fresh
        _swap(fresh, final)
    except OSError as error:
        raise ArtifactError(f"cannot write {final}: {error.strerror}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _swap(fresh: Path, final: Path) -> None:
    """Two renames: a folder cannot be renamed over a full one."""
    if not final.exists():
        fresh.rename(final)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{final.name}.old.", dir=final.parent))
    final.rename(old)
    try:
        fresh.rename(final)
    except OSError:
        old.rename(final)
        raise
    shutil.rmtree(old)


def _write_weights(
    path: Path, description: ArtifactDescription, values: Mapping[str, np.ndarray]
) -> WeightsFile:
    regions = description.regions
    state = [tensor for tensor in description.in_region("state") if description.initialized(tensor)]
    frozen = description.in_region("frozen")
    unknown = sorted(set(values) - {tensor.name for tensor in (*frozen, *state)})
    if unknown:
        raise ValueError(f"values for tensors without a place in the weights file: {unknown}")
    metadata = {"format": "pock-weights", "model": description.model}
    parts = [(frozen, regions.frozen_bytes), (state, regions.trainable_bytes)]
    header = header_json(parts, metadata)
    whole, frozen_hash = hashlib.sha256(), hashlib.sha256()
    with path.open("wb") as file:

        def put(piece: bytes | memoryview, *hashes: Any) -> None:
            file.write(piece)
            for digest in (whole, *hashes):
                digest.update(piece)

        put(file_start(header))
        for (tensors, size), hashes in zip(parts, ([frozen_hash], []), strict=True):
            end = 0
            for tensor in tensors:
                put(bytes(tensor.offset - end), *hashes)
                put(_stored_bytes(tensor.name, tensor.dtype, tensor.shape, values), *hashes)
                end = tensor.offset + tensor.nbytes
            put(bytes(size - end), *hashes)
        nbytes = file.tell()
    return WeightsFile(
        nbytes=nbytes,
        data_offset=data_offset(header),
        sha256=whole.hexdigest(),
        frozen_sha256=frozen_hash.hexdigest(),
    )


def _stored_bytes(
    name: str, dtype: str, shape: tuple[int, ...], values: Mapping[str, np.ndarray]
) -> memoryview:
    if name not in values:
        raise ValueError(f"no initial value for {name!r}")
    value = np.ascontiguousarray(values[name])
    bits = {"bfloat16": "uint16"}.get(dtype)  # numpy itself has no bfloat16
    if value.dtype.name not in (dtype, bits) or values[name].shape != shape:
        raise ValueError(
            f"{name!r} is {value.dtype.name}{values[name].shape}, planned as {dtype}{shape}"
        )
    return value.reshape(-1).view(np.uint8).data


def _write_sources(folder: Path, generated: Mapping[str, str], spec: "TargetSpec") -> None:
    """Copy the runtime, so that a user can build it with a tool chain of their own."""
    folder.mkdir()
    driver = (*link.DRIVER_HEADERS, *link.driver_sources(spec)) if spec.device else ()
    hosted = (*link.HEADERS, *link.EXECUTABLE_SOURCES, *driver)
    for name in (*hosted, "CMakeLists.txt") if spec.has_system else link.BARE_FILES:
        shutil.copyfile(link.RUNTIME / name, folder / name)
    for name, text in generated.items():
        (folder / name).write_text(text, encoding="utf-8")


def _file_table(folder: Path) -> dict[str, dict[str, Any]]:
    table = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            table[name] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    return table
