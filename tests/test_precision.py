"""Training with matrix products in bfloat16: a step within what their rounding allows."""

import dataclasses
import shutil
import subprocess

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import pock_tvm
from pock_tvm import Trainer, load_artifact
from pock_tvm.artifact.dataset_file import write_dataset
from pock_tvm.errors import PrecisionError
from pock_tvm.frontend import load_model
from pock_tvm.frontend.torch_export import import_module
from pock_tvm.targets import get_target
from pock_tvm.targets.precision import with_precision

BATCH, INPUTS, OUTPUTS, RATE = 64, 96, 48, 2.0
UNIT = 2.0**-9
"""What an operand is off by, of itself: bfloat16 has 8 bits of significand."""
SINGLE = 2.0**-23
"""The same of float32, twice: a product that is added to a sum is rounded at most twice."""


@pytest.fixture(scope="module")
def has_products():
    try:
        with_precision(get_target("host"), "bf16")
    except PrecisionError:
        pytest.skip("needs a processor with AVX512_BF16 or bfdot")


def linear():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = torch.nn.Linear(INPUTS, OUTPUTS, bias=False)
    return import_module(net, (torch.zeros(1, INPUTS),), batch=BATCH, name="linear"), net


def samples():
    rng = np.random.default_rng(0)
    shapes = ((BATCH, INPUTS), (BATCH, OUTPUTS))
    return tuple(rng.standard_normal(shape).astype("float32") for shape in shapes)


def product(x, y, off_x=0.0, off_y=0.0, unit=UNIT):
    """Return x @ y and the most that its elements are off by, given the same of x and y."""
    size_x, size_y = np.abs(x) + off_x, np.abs(y) + off_y
    carried = np.abs(x) @ np.broadcast_to(off_y, y.shape) + np.broadcast_to(off_x, x.shape) @ size_y
    rounded = (2 * unit + unit**2 + x.shape[1] * SINGLE * (1 + unit) ** 2) * (size_x @ size_y)
    return x @ y, carried + rounded


def weight_after_a_step(weight, x, wanted, unit):
    """Return the weight [in, out] after a step of SGD on the mean squared error, and its bound."""
    y, off_y = product(x, weight, unit=unit)
    scale = 2 / y.size
    ct = scale * (y - wanted)
    off_ct = scale * (off_y + 2 * SINGLE * (np.abs(y - wanted) + off_y))
    gradient, off_gradient = product(x.T, ct, 0.0, off_ct, unit)
    rounded = SINGLE * (np.abs(weight) + RATE * (np.abs(gradient) + off_gradient))
    return weight - RATE * gradient, RATE * off_gradient + rounded


def check_step(got, net):
    """Within the bound of bfloat16, and by far not within that of float32."""
    weight = net.weight.detach().numpy().T.astype("float64")
    data = [x.astype("float64") for x in samples()]
    wanted, bound = weight_after_a_step(weight, *data, UNIT)
    off = np.abs(got - wanted)
    assert (off <= bound).all()
    assert (off > weight_after_a_step(weight, *data, 0.0)[1]).any()
    # The bound says something: the step moved the weight by more than it.
    assert np.abs(wanted - weight).max() > 10 * bound.max()


def test_a_step_is_off_by_what_rounding_allows(tmp_path, has_products):
    model, net = linear()
    compiled = pock_tvm.compile(model, tmp_path / "net", loss="mse", precision="bf16")
    assert compiled.report()["precision"] == "bf16"
    assert load_artifact(tmp_path / "net").description.precision == "bf16"
    with Trainer(tmp_path / "net") as trainer:
        trainer.step(*samples(), RATE)
        check_step(trainer.tensor("weight").T, net)


def test_threads_do_not_change_a_run(tmp_path, has_products):
    pock_tvm.compile(linear()[0], tmp_path / "net", loss="mse", precision="bf16")
    runs = []
    for threads in (1, 2):
        with Trainer(tmp_path / "net", threads=threads) as trainer:
            losses = [trainer.step(*samples(), RATE) for _ in range(4)]
            runs.append((losses, trainer.tensor("weight").copy()))
    assert runs[0][0] == runs[1][0]
    assert runs[0][0][-1] < runs[0][0][0]
    np.testing.assert_array_equal(runs[0][1], runs[1][1])


def test_a_transformer_learns(tmp_path, has_products):
    """Products of all forms, several kernels in an object, as a compilation without cache has."""
    model = load_model("zoo:bert_base@small", 8)
    pock_tvm.compile(model, tmp_path / "net", precision="bf16", optimizer="adamw", cache=False)
    runs = []
    for threads in (1, 2):
        with Trainer(tmp_path / "net", threads=threads) as trainer:
            rng = np.random.default_rng(1)
            inputs = {
                t.name: rng.integers(0, t.limit or 2, t.original_shape).astype(t.dtype)
                for t in trainer.description.sample_tensors
            }
            labels = inputs.pop("labels")
            runs.append([trainer.step(inputs, labels, 1e-3) for _ in range(10)])
    assert runs[0] == runs[1]
    assert runs[0][-1] < runs[0][0] / 2


@pytest.mark.skipif(shutil.which("qemu-aarch64") is None, reason="needs qemu-aarch64")
def test_a_step_on_arm(tmp_path):
    pi = get_target("raspberry-pi-5")
    options = {**pi.tvm_options, "mattr": ["+neon", "+bf16"]}
    spec = dataclasses.replace(pi, name="board", tvm_options=options)
    model, net = linear()
    board = pock_tvm.compile(model, tmp_path / "net", target=spec, loss="mse", precision="bf16")
    assert "bf16" in board.artifact.cpu_features
    artifact = board.artifact
    write_dataset(tmp_path / "data", artifact.description, *samples())
    line = ["qemu-aarch64", "-cpu", "max", artifact.executable, "train", "--in-order", "--steps", 1]
    line += ["--weights", artifact.weights, "--data", tmp_path / "data", "--lr", RATE]
    line += ["--checkpoint", tmp_path / "done.ckpt"]
    subprocess.run([str(word) for word in line], capture_output=True, text=True, check=True)
    check_step(load_file(tmp_path / "done.ckpt")["weight"], net)


@pytest.mark.parametrize(
    "target", ["raspberry-pi-4", "x86-64-v4", "apple-m1", "riscv64", "jetson-orin", "hexagon-v68"]
)
def test_what_cannot_is_refused_in_one_line(target, tmp_path):
    with pytest.raises(PrecisionError, match=f"target {target} has no bfloat16 products") as caught:
        pock_tvm.compile(linear()[0], tmp_path / "net", target=target, precision="bf16")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "net").exists()


def test_an_unknown_precision_is_refused(tmp_path):
    with pytest.raises(PrecisionError, match="precision is 'fp8'; it takes fp32 or bf16"):
        pock_tvm.compile(linear()[0], tmp_path / "net", precision="fp8")
