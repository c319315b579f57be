"""`pock compile` on files of other formats: the options that they need, and what is refused."""

import numpy as np
import pytest
import torch
from onnx_exports import export
from torch import nn

from pock_tvm import Trainer


class Two(nn.Module):
    """Returns two tensors."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 2), nn.Linear(4, 3)

    def forward(self, x):
        return self.a(x), self.b(x)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    torch.manual_seed(0)
    net, path = Two(), tmp_path_factory.mktemp("files") / "two.onnx"
    return net, export(net, (torch.zeros(1, 4),), path, "torchscript")


def test_an_onnx_file_with_a_chosen_output(pock, two, tmp_path):
    net, path = two
    pock("compile", path, "-o", tmp_path / "net", "--batch", 3, "--output-name", "1")
    x = np.random.default_rng(0).random((3, 4), "float32")
    with Trainer(tmp_path / "net") as trainer:
        wanted = net.b(torch.tensor(x)).detach().numpy()
        np.testing.assert_allclose(trainer.predict(x), wanted, rtol=1e-5, atol=1e-6)
        assert {t.name for t in trainer.description.tensors if t.trainable} == {
            "b.weight",
            "b.bias",
        }


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((), "returns 2 tensors"),
        (("--output-name", "c"), "has no output 'c'"),
        (("--output-name", "0", "--shape", "y=8,4"), "has no input 'y'; its inputs are x"),
        (("--output-name", "0", "--shape", "x=8,5"), "which (8, 5) contradicts"),
        (("--output-name", "0", "--shape", "x8,4"), "'x8,4' is not of the form NAME=8,3,224,224"),
        (("--output-name", "0", "--shape", "x=8,0"), "'x=8,0' is not of the form"),
    ],
)
def test_what_is_left_open_or_contradicts_is_refused(refused, two, tmp_path, arguments, message):
    assert message in refused("compile", two[1], "-o", tmp_path / "net", *arguments)
    assert not (tmp_path / "net").exists()


def test_shapes_are_for_files(refused, tmp_path):
    options = ("-o", tmp_path / "net", "--shape", "pixels=8,1,8,8")
    assert "--shape is for files" in refused("compile", "small_net:build", *options)


@pytest.mark.parametrize("ending", ["onnx", "tflite", "pt2"])
def test_damaged_files_are_refused(refused, tmp_path, ending):
    path = tmp_path / f"net.{ending}"
    path.write_bytes(b"\x08\x07damaged")
    message = refused("compile", path, "-o", tmp_path / "out")
    assert f"net.{ending} is not a" in message
    assert not (tmp_path / "out").exists()
