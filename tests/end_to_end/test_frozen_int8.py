"""A frozen part in 8-bit integers: it trains, exports what it was given, and a Hexagon agrees."""

import shutil

import numpy as np
import pytest
import small_net
from click.testing import CliRunner
from test_other_machines import losses_of

import pock_tvm
from pock_tvm import PockError, Trainer
from pock_tvm.artifact.dataset_file import write_dataset
from pock_tvm.cli import pock
from pock_tvm.frontend import load_model
from pock_tvm.targets import get_target

STEPS, RATE = 10, 0.05
QUANTIZED = ("features.stem.weight", "features.pointwise.weight")
UPDATE = {"update": "head", "optimizer": "adamw"}


@pytest.fixture(scope="module")
def model():
    return load_model("small_net:build", small_net.BATCH)


@pytest.fixture(scope="module")
def samples(model):
    generator = np.random.default_rng(0)
    inputs = generator.standard_normal((STEPS * model.batch, *model.inputs[0].shape[1:]))
    labels = generator.integers(0, small_net.CLASSES, len(inputs)).astype("int32")
    return inputs.astype("float32"), labels


@pytest.fixture(scope="module")
def compiled(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("int8")
    whole = pock_tvm.compile(model, folder / "float32", **UPDATE)
    return whole, pock_tvm.compile(model, folder / "int8", frozen="int8", **UPDATE)


def train(artifact, samples):
    with Trainer(artifact.directory, threads=1) as trainer:
        batches = zip(*(np.split(a, STEPS) for a in samples), strict=True)
        return [trainer.step(x, y, RATE) for x, y in batches]


def test_the_step_reads_integers_alone(compiled):
    whole, quantized = compiled
    assert (whole.quantized, quantized.quantized) == (0, len(QUANTIZED))
    names = {t.name for t in quantized.artifact.description.tensors}
    assert not names & set(QUANTIZED)
    assert "features.depthwise.weight" in names


def test_losses_stay_near_those_of_floats(compiled, samples):
    whole, quantized = (train(c.artifact, samples) for c in compiled)
    # of values from -127 to 127, each off by half a step at most: 0.4 % of the largest
    np.testing.assert_allclose(quantized, whole, rtol=0.01)
    assert quantized != whole


def test_an_export_gives_the_weights_that_came(model, compiled, tmp_path):
    from safetensors.numpy import load_file

    words = ("export", str(compiled[1].artifact.directory), "-o", str(tmp_path / "out.safetensors"))
    assert CliRunner().invoke(pock, words, catch_exceptions=False).exit_code == 0
    exported = load_file(tmp_path / "out.safetensors")
    for name in model.parameters:
        np.testing.assert_array_equal(exported[name], model.parameters[name])


def test_nothing_to_quantize_is_told(model, tmp_path):
    with pytest.raises(PockError, match="no product with a frozen weight lies before what learns"):
        pock_tvm.compile(model, tmp_path / "net", frozen="int8")
    with pytest.raises(PockError, match="opencl runs kernels on a GPU, which has none for int8"):
        pock_tvm.compile(model, tmp_path / "net", target="opencl", frozen="int8", **UPDATE)
    assert not (tmp_path / "net").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hexagon-v66", "hexagon-v68"])
def test_a_hexagon_agrees(name, model, compiled, samples, tmp_path):
    spec = get_target(name)
    if not shutil.which(spec.emulator[0]):
        pytest.skip(f"needs {spec.emulator[0]} (Debian package qemu-user)")
    built = pock_tvm.compile(model, tmp_path / "net", target=spec, frozen="int8", **UPDATE)
    data = tmp_path / "data"
    write_dataset(data, built.artifact.description, {small_net.INPUT: samples[0]}, samples[1])
    losses = losses_of(built.artifact, spec, data, "--steps", STEPS)
    # Sums of integers are the same; where floats around them differ in a last bit, a value may
    # round to the next integer: one 127th of the largest in one of hundreds.
    np.testing.assert_allclose(losses, train(compiled[1].artifact, samples), rtol=1e-3)
