"""How far a run is from itself when its weights are moved by half a unit in the last place.

    python -m benchmarks.sway --models mobilenet_v2_96,mcunet --rates 3e-5,1e-6

The losses of ten steps on this machine are compared with those of runs that start from weights
moved at random by as much as rounding moves any number. What one machine does to itself that way
no other can undercut: a case of ``devices.py`` whose sway is above its tolerance says nothing
about machines.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import pock_tvm
from benchmarks.device_models import MODELS, RESNET18_SPARSE, SMOOTH_MODELS
from benchmarks.devices import BATCH, RATE, RATES, STEPS, worst_difference
from pock_tvm.deploy.self_test import made_up_samples
from pock_tvm.frontend.torch_export import import_module

HALF_UNIT = 2.0**-24
RUNS = 20


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    """Print and return a row for each model, update and rate."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--updates", default="full,preset")
    parser.add_argument("--rates", help="those of the matrix if left out")
    options = parser.parse_args(arguments)
    rows = []
    for name in options.models.split(","):
        for update in options.updates.split(","):
            own = str(RATES.get(f"{name} {update}", RATE))
            rates = [float(word) for word in (options.rates or own).split(",")]
            for row in sway(name, update, rates):
                rows.append(row)
                print(json.dumps(row), flush=True)
    return rows


def sway(name: str, update: str, rates: list[float]) -> list[dict[str, Any]]:
    """Return the smallest, median and largest difference of a run from itself at each rate."""
    module, example = {**MODELS, **SMOOTH_MODELS}[name]()
    model = import_module(module, example, BATCH, name)
    scheme = RESNET18_SPARSE if (name, update) == ("resnet18_64", "preset") else update
    with tempfile.TemporaryDirectory() as folder:
        pock_tvm.compile(model, Path(folder) / "net", update=scheme)
        with pock_tvm.Trainer(Path(folder) / "net", threads=1) as trainer:
            trainer.save_checkpoint(Path(folder) / "start")
            return [_row(trainer, Path(folder) / "start", name, update, rate) for rate in rates]


def _row(
    trainer: pock_tvm.Trainer, start: Path, name: str, update: str, rate: float
) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    trainer.load_checkpoint(start)
    weights = {
        t.name: trainer.tensor(t.name).copy()
        for t in trainer.description.tensors
        if t.trainable and t.dtype == "float32"
    }
    still = _losses(trainer, rate)
    apart = []
    for _ in range(RUNS):
        trainer.load_checkpoint(start)
        trainer.load_weights({n: _moved(value, generator) for n, value in weights.items()})
        apart.append(worst_difference(_losses(trainer, rate), still))
    found = [float(f"{value:.2g}") for value in np.quantile(apart, (0, 0.5, 1))]
    ends = {"first_loss": still[0], "last_loss": still[-1]}
    sways = dict(zip(("least", "median", "most"), found, strict=True))
    return {"model": name, "update": update, "learning_rate": rate, **ends, **sways}


def _moved(value: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    by = generator.uniform(-HALF_UNIT, HALF_UNIT, value.shape)
    return np.asarray(value * (1 + by), dtype=value.dtype)


def _losses(trainer: pock_tvm.Trainer, rate: float) -> list[float]:
    inputs, labels = made_up_samples(trainer.description)
    return [trainer.step(inputs, labels, rate) for _ in range(STEPS)]


if __name__ == "__main__":
    main()
