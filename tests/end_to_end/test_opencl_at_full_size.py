"""Whole steps of MobileNetV2 and DistilBERT through OpenCL, and programs for boards with GPUs."""

import fnmatch

import numpy as np
import pytest
import small_net
from full_models import build_model
from test_full_models import RUNS, VANISHING
from test_opencl import needs_driver

import pock_tvm
from pock_tvm import Trainer
from pock_tvm.frontend import load_model

pytestmark = pytest.mark.slow
STEPS = 3
CHOSEN = [
    r for r in RUNS if (r.model, r.optimizer) in (("mobilenet_v2", "sgd"), ("distilbert", "sgd"))
]


@pytest.mark.parametrize("run", CHOSEN, ids=lambda run: run.model)
def test_losses_and_gradients_agree_with_the_processor(run, tmp_path):
    """At the rate, and as near, as both follow PyTorch in float64."""
    needs_driver()
    model = build_model(run.model)
    imported = model.imported()
    losses, gradients = {}, {}
    for target in ("host", "opencl"):
        folder = tmp_path / target
        pock_tvm.compile(imported, folder, target=target, keep_gradients=True)
        with Trainer(folder, threads=1) as trainer:
            names = [t.name for t in trainer.description.tensors if t.name.startswith("gradient.")]
            losses[target] = []
            for _ in range(STEPS):
                batch = model.inputs.numpy(), model.labels.numpy()
                losses[target].append(trainer.step(*batch, run.rate))
                if target not in gradients:
                    gradients[target] = {n: trainer.tensor(n, original_layout=False) for n in names}
    np.testing.assert_allclose(losses["opencl"], losses["host"], rtol=1e-5)
    assert abs(losses["host"][-1] - losses["host"][0]) > 1e-3 * losses["host"][0]
    assert len(gradients["host"]) > 100
    for name, expected in gradients["host"].items():
        if not fnmatch.fnmatchcase(name, f"gradient.{VANISHING}"):
            error = np.linalg.norm(gradients["opencl"][name] - expected)
            assert error <= run.gradient_tolerance * np.linalg.norm(expected), name


@pytest.mark.parametrize("target", ["mali", "adreno", "jetson-nano"])
def test_a_program_for_a_board_links(target, tmp_path):
    """For 64-bit Arm, and dynamic: it opens a driver. zig builds a C library the first time."""
    model = load_model("small_net:build", small_net.BATCH)
    built = pock_tvm.compile(model, tmp_path / "net", target=target, update="bias").artifact
    program = built.executable.read_bytes()
    assert program[:6] == b"\x7fELF\x02\x01"
    assert int.from_bytes(program[18:20], "little") == 183  # EM_AARCH64
    assert b"/lib/ld-linux-aarch64.so.1" in program
