"""An imported model as files, for the workers that plan and compile: JSON and safetensors."""

import json
from dataclasses import asdict
from pathlib import Path

import tvm
from safetensors.numpy import load_file, save_file

from pock_tvm.frontend.model import ImportedModel, InputSpec


def save_model(model: ImportedModel, folder: Path) -> None:
    """Write a model; what it holds unused is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "name": model.name,
        "module": tvm.ir.save_json(model.mod),
        "parameters": list(model.parameters),  # their order is that of the function's parameters
        "inputs": [asdict(one) for one in model.inputs],
        "buffers": sorted(model.buffers),
        "aliases": dict(model.aliases),
    }
    save_file(model.parameters, folder / "parameters.safetensors")
    (folder / "model.json").write_text(json.dumps(about), encoding="utf-8")


def load_model(folder: Path) -> ImportedModel:
    """Read what ``save_model`` wrote."""
    about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    values = load_file(folder / "parameters.safetensors")
    return ImportedModel(
        name=about["name"],
        mod=tvm.ir.load_json(about["module"]),
        parameters={name: values[name] for name in about["parameters"]},
        inputs=tuple(InputSpec(**{**one, "shape": tuple(one["shape"])}) for one in about["inputs"]),
        buffers=frozenset(about["buffers"]),
        aliases=about["aliases"],
    )
