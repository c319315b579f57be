"""``manifest.json``: the description, the files with their hashes, and a hash of all that."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from pock_tvm.artifact.description import (
    ArtifactDescription,
    EntryPoint,
    Regions,
    TensorSpec,
)
from pock_tvm.artifact.field_types import type_problem
from pock_tvm.artifact.layout import layout_problem
from pock_tvm.errors import ArtifactError

FORMAT = "pock-artifact"
SCHEMA = 1


def canonical_sha256(document: Mapping[str, Any]) -> str:
    """Hash a JSON document independently of its spacing and of the order of its keys."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def describe(description: ArtifactDescription, cpu_features: tuple[str, ...]) -> dict[str, Any]:
    """Return the part of the manifest that is known before anything is linked."""
    return {
        "format": FORMAT,
        "schema": SCHEMA,
        "created_by": description.created_by,
        "target": {
            "name": description.target,
            "tvm_options": dict(description.tvm_options),
            "cpu_features": list(cpu_features),
        },
        "model": description.model,
        "model_sha256": description.model_sha256,
        "aliases": dict(description.aliases),
        "loss": dict(description.loss),
        "optimizer": dict(description.optimizer),
        "update": dict(description.update),
        "batch": description.batch,
        "dropout": description.dropout,
        "accumulate": description.accumulate,
        "precision": description.precision,
        "regions": asdict(description.regions),
        "entries": [asdict(entry) for entry in description.entries],
        "tensors": [asdict(tensor) for tensor in description.tensors],
    }


def finish(
    body: Mapping[str, Any], artifact_id: str, files: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Add the files and the hash over everything."""
    manifest = {**body, "artifact_id": artifact_id, "files": dict(files)}
    return {**manifest, "manifest_sha256": canonical_sha256(manifest)}


def parse(text: str, where: str) -> dict[str, Any]:
    """Read a manifest back.

    Raises:
        ArtifactError: it is not a manifest, of another schema, or was changed after it was written.
    """
    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{where} is not JSON ({error}); compile the artifact again") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ArtifactError(f"{where} is not the manifest of a pock artifact")
    if manifest.get("schema") != SCHEMA:
        raise ArtifactError(
            f"{where} has schema {manifest.get('schema')!r}, this pock_tvm reads {SCHEMA}; "
            "compile the artifact again"
        )
    body = {key: value for key, value in manifest.items() if key != "manifest_sha256"}
    if manifest.get("manifest_sha256") != canonical_sha256(body):
        raise ArtifactError(
            f"{where} was changed after it was written (its SHA-256 does not match); "
            "compile the artifact again"
        )
    return manifest


def restore(manifest: Mapping[str, Any], where: str) -> ArtifactDescription:
    """Rebuild the description and check the rules that its offsets obey.

    Raises:
        ArtifactError: a field is missing or an offset breaks a rule.
    """
    try:
        description = ArtifactDescription(
            target=manifest["target"]["name"],
            tvm_options=manifest["target"]["tvm_options"],
            model=manifest["model"],
            model_sha256=manifest["model_sha256"],
            aliases=manifest["aliases"],
            loss=manifest["loss"],
            optimizer=manifest["optimizer"],
            update=manifest["update"],
            batch=manifest["batch"],
            dropout=manifest.get("dropout", False),
            accumulate=manifest.get("accumulate", 1),
            precision=manifest.get("precision", "fp32"),
            regions=Regions(**manifest["regions"]),
            tensors=tuple(_tensor(row) for row in manifest["tensors"]),
            entries=tuple(_entry(row) for row in manifest["entries"]),
            created_by=manifest["created_by"],
        )
        problem = type_problem(description) or layout_problem(description)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{where} lacks or misspells a field: {error}") from None
    if problem:
        raise ArtifactError(f"{where}: {problem}")
    return description


@dataclass(frozen=True, kw_only=True)
class FileTable:
    """What a manifest says about the files beside it."""

    artifact_id: str
    cpu_features: tuple[str, ...]
    files: Mapping[str, tuple[int, str]]
    """Bytes and SHA-256 by name, a relative path inside the folder."""


def file_table(manifest: Mapping[str, Any], where: str) -> FileTable:
    """Return the files that the manifest lists.

    Raises:
        ArtifactError: a field is missing or of the wrong type, or a name leads out of the folder.
    """
    try:
        features = manifest["target"]["cpu_features"]
        files = {name: (row["bytes"], row["sha256"]) for name, row in manifest["files"].items()}
        artifact_id = manifest["artifact_id"]
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{where} lacks or misspells a field: {error}") from None
    texts = (artifact_id, *features) if isinstance(features, list) else (None,)
    if not all(isinstance(text, str) for text in texts):
        raise ArtifactError(f"{where}: artifact_id or cpu_features is no text")
    for name, (nbytes, sha256) in files.items():
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or not name.isprintable():
            raise ArtifactError(f"{where}: the file name {name!r} leads out of the folder")
        if type(nbytes) is not int or not isinstance(sha256, str):
            raise ArtifactError(f"{where}: the size or hash of {name!r} is none")
    return FileTable(artifact_id=artifact_id, cpu_features=tuple(features), files=files)


def _tensor(row: Mapping[str, Any]) -> TensorSpec:
    axes = row["axes"]
    return TensorSpec(
        **{**row, "shape": tuple(row["shape"]), "axes": None if axes is None else tuple(axes)}
    )


def _entry(row: Mapping[str, Any]) -> EntryPoint:
    return EntryPoint(**{**row, "inputs": tuple(row["inputs"]), "outputs": tuple(row["outputs"])})
