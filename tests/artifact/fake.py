"""An artifact around ``fake_step.c``: everything but the compiler."""

import functools
import hashlib
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pock_tvm.artifact import (
    ArtifactDescription,
    EntryPoint,
    Regions,
    TensorSpec,
    write_artifact,
)

BATCH, FEATURES, CLASSES = 4, 6, 3
SOURCE = Path(__file__).with_name("fake_step.c")


@dataclass(frozen=True)
class Machine:
    """The fields of a TargetSpec that linking reads."""

    name: str
    zig_target: str
    zig_options: tuple[str, ...]
    mtriple: str
    object_target: str
    device: None = None
    has_system: bool = True


HOST = Machine("host", "x86_64-linux-gnu.2.28", (), "x86_64-linux-gnu", "x86_64-linux-gnu.2.28")
PI = Machine(
    "raspberry-pi-4",
    "aarch64-linux-musl",
    ("-mcpu=cortex_a72", "-static"),
    "aarch64-linux-gnu",
    "aarch64-linux-musl",
)

TENSORS = (
    TensorSpec(name="scale", dtype="float32", shape=(6,), region="frozen", offset=0, role="weight"),
    TensorSpec(
        name="fc.weight",
        dtype="float32",
        shape=(6, 1),
        region="state",
        offset=0,
        role="weight",
        trainable=True,
        axes=(1, 0),
    ),
    TensorSpec(
        name="fc.bias",
        dtype="float32",
        shape=(1,),
        region="state",
        offset=64,
        role="weight",
        trainable=True,
    ),
    TensorSpec(
        name="fc.weight.momentum",
        dtype="float32",
        shape=(6, 1),
        region="state",
        offset=128,
        role="optimizer",
        axes=(1, 0),
    ),
    TensorSpec(
        name="fc.bias.momentum",
        dtype="float32",
        shape=(1,),
        region="state",
        offset=192,
        role="optimizer",
    ),
    TensorSpec(name="x", dtype="float32", shape=(4, 6), region="arena", offset=0, role="input"),
    TensorSpec(
        name="labels",
        dtype="int32",
        shape=(4,),
        region="arena",
        offset=128,
        role="label",
        limit=3,
        ignore=-100,
    ),
    TensorSpec(
        name="learning_rate", dtype="float32", shape=(), region="arena", offset=192, role="hyper"
    ),
    TensorSpec(name="loss", dtype="float32", shape=(), region="arena", offset=256, role="output"),
    TensorSpec(name="correct", dtype="int32", shape=(), region="arena", offset=320, role="output"),
    TensorSpec(
        name="logits", dtype="float32", shape=(4, 3), region="arena", offset=384, role="output"
    ),
)


def description(machine: Machine = HOST, **changes) -> ArtifactDescription:
    made = ArtifactDescription(
        target=machine.name,
        tvm_options={"kind": "llvm", "mtriple": machine.mtriple},
        model='fake "quoted" ünicode',
        loss={"name": "cross_entropy"},
        optimizer={"name": "sgd", "momentum": 0.5},
        update={"name": "full"},
        batch=BATCH,
        regions=Regions(
            frozen_bytes=64,
            state_bytes=256,
            trainable_bytes=128,
            arena_bytes=576,
            workspace_bytes_per_thread=64,
            arena_lower_bound_bytes=512,
        ),
        tensors=TENSORS,
        entries=(
            EntryPoint(
                name="train_step",
                symbol="pock_entry_train_step",
                kernel_calls=2,
                inputs=("x", "labels", "learning_rate"),
                outputs=("loss",),
            ),
            EntryPoint(
                name="evaluate",
                symbol="pock_entry_evaluate",
                kernel_calls=1,
                inputs=("x", "labels"),
                outputs=("loss", "correct"),
            ),
            EntryPoint(
                name="predict",
                symbol="pock_entry_predict",
                kernel_calls=1,
                inputs=("x",),
                outputs=("logits",),
            ),
        ),
        plan={"calls": []},
    )
    return replace(made, **changes)


def without_ignored_label() -> ArtifactDescription:
    return description(
        tensors=tuple(replace(t, ignore=None) if t.name == "labels" else t for t in TENSORS)
    )


def values() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "scale": np.linspace(0.5, 1.5, FEATURES, dtype=np.float32),
        "fc.weight": rng.standard_normal((FEATURES, 1)).astype(np.float32),
        "fc.bias": np.zeros(1, np.float32),
    }


def samples(count: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, FEATURES)).astype(np.float32)
    return x, rng.integers(0, CLASSES, count).astype(np.int32)


@functools.cache
def object_bytes(machine: Machine = HOST) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "step.o"
        subprocess.run(
            [
                *(sys.executable, "-m", "ziglang", "cc", "-target", machine.object_target),
                *("-O2", "-fPIC", "-c", str(SOURCE), "-o", str(output)),
            ],
            check=True,
        )
        return output.read_bytes()


def machine_of(target: str) -> Machine:
    """The machine of a target, by its name."""
    from pock_tvm.targets import get_target

    spec = get_target(target)
    system = str(spec.tvm_options["mtriple"])
    return Machine(target, spec.zig_target, spec.zig_options, system, spec.zig_target)


def write(directory: Path, machine: Machine = HOST, made: ArtifactDescription | None = None, **kw):
    kw = {"executable": False, "library": machine is HOST, **kw}
    made = made or description(machine)
    return write_artifact(directory, made, [object_bytes(machine)], values(), machine, **kw)


def samples_ending_right(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples of which the untrained model gets several right, the last among them."""
    x, labels = samples(4 * count)
    right = Reference().losses(x, labels) < 0.25
    order = np.argsort(right[: 4 * count], kind="stable")[-count:]
    assert right[order[-1]]
    return x[order], labels[order]


class Reference:
    """What ``fake_step.c`` computes, in numpy."""

    def __init__(self) -> None:
        first = values()
        self.scale = first["scale"].astype(np.float64)
        self.w, self.b = first["fc.weight"][:, 0].astype(np.float64), 0.0
        self.wm, self.bm = np.zeros(FEATURES), 0.0

    def losses(self, x: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return ((x * self.scale) @ self.w + self.b - labels) ** 2

    def step(self, x: np.ndarray, labels: np.ndarray, rate: float) -> float:
        scaled = x * self.scale
        error = scaled @ self.w + self.b - labels
        self.wm = 0.5 * self.wm + scaled.T @ error / BATCH
        self.bm = 0.5 * self.bm + error.mean()
        self.w, self.b = self.w - rate * self.wm, self.b - rate * self.bm
        return float((error**2).mean())


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
