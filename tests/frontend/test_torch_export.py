"""Importing PyTorch: names, layouts, dropout, statistics, and what is refused."""

import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from tvm import relax

import pock_tvm
from pock_tvm.errors import BatchError, PockError, UnknownNameError, UnsupportedModelError
from pock_tvm.frontend import load_model
from pock_tvm.frontend.torch_export import import_file, import_module, import_program
from pock_tvm.relay_passes.rewrite import bindings_of, is_call_to


class Net(nn.Module):
    """A convolution, batch norm, in-place dropout and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5, inplace=True)
        self.head = nn.Linear(4, 2)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        y = self.drop(torch.relu(self.norm(self.stem(pixels))))
        return self.head(y.mean((2, 3)))


@pytest.fixture(scope="module")
def imported():
    torch.manual_seed(0)
    net = Net().train()
    model = import_module(net, (torch.zeros(1, 3, 8, 8),), 2, "net")
    return net, model


def test_tensors_keep_their_names_and_values(imported) -> None:
    net, model = imported
    state = {k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert set(model.parameters) == set(state)
    for name, value in state.items():
        np.testing.assert_array_equal(model.parameters[name], value.numpy())


def test_running_statistics_are_known_as_buffers(imported) -> None:
    assert imported[1].buffers == {"norm.running_mean", "norm.running_var"}


def test_inputs_have_the_names_of_forward_and_the_asked_batch(imported) -> None:
    (spec,) = imported[1].inputs
    assert (spec.name, spec.shape, spec.dtype) == ("pixels", (2, 3, 8, 8), "float32")
    assert imported[1].batch == 2


def test_the_module_stays_in_the_mode_it_was_in(imported) -> None:
    assert imported[0].training


def test_an_inplace_dropout_is_kept_and_not_imported_as_times_zero(imported) -> None:
    text = imported[1].mod.script()
    assert text.count('"pock.dropout"') == 1
    assert '"p": 0.5' in text
    assert "R.multiply" not in text


class Dropouts(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(x)
        functional.dropout(x, 0.2, self.training, inplace=True)
        y = functional.dropout2d(x, 0.3, self.training) + functional.dropout(x, 0.0)
        return functional.alpha_dropout(y, 0.4, self.training)


@pytest.mark.parametrize("training", [False, True])
def test_each_kind_of_dropout_is_kept(training) -> None:
    program = torch.export.export(Dropouts().train(training), (torch.zeros(2, 3, 4, 4),))
    calls = [b.value for b in bindings_of(import_program(program, "net", 2).mod["main"])]
    kept = [c.attrs for c in calls if is_call_to(c, "pock.dropout")]
    assert [float(a["p"]) for a in kept] == [0.2, 0.3, 0.4]
    assert [int(a["stream"]) for a in kept] == [0, 1, 2]
    assert [[int(axis) for axis in a["shared"]] for a in kept] == [[], [2, 3], []]
    assert [bool(a["alpha"]) for a in kept] == [False, False, True]
    # the in-place one is seen by both of its readers
    names = [c.op.name for c in calls if isinstance(c, relax.Call)]
    assert names == ["relax.nn.relu", "pock.dropout", "pock.dropout", "relax.add", "pock.dropout"]


def test_token_ids_become_int32() -> None:
    net = nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(12, 2))
    model = import_module(net, (torch.zeros(1, 3, dtype=torch.int64),), 2, "net")
    assert model.inputs[0].dtype == "int32"


def test_a_pt2_file_is_imported_with_its_own_batch(tmp_path) -> None:
    program = torch.export.export(Net().eval(), (torch.zeros(2, 3, 8, 8),))
    torch.export.save(program, tmp_path / "net.pt2")
    model = import_file(tmp_path / "net.pt2", 2)
    assert "head.weight" in model.parameters
    with pytest.raises(BatchError, match="exported for batches of 2, not 4"):
        import_file(tmp_path / "net.pt2", 4)


def test_a_file_that_is_no_program_is_refused(tmp_path) -> None:
    (tmp_path / "net.pt2").write_bytes(b"not a program")
    with pytest.raises(PockError, match=r"net\.pt2 is not an exported program"):
        import_file(tmp_path / "net.pt2", 2)
    with pytest.raises(PockError, match="no such file"):
        import_file(tmp_path / "other.pt2", 2)


class Block(nn.Module):
    def __init__(self, operator) -> None:
        super().__init__()
        self.linear, self.operator = nn.Linear(8, 8), operator

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.operator(self.linear(x))


def test_all_operators_that_cannot_be_imported_are_listed_with_their_modules() -> None:
    net = nn.Sequential(Block(torch.digamma), Block(torch.erfinv))
    with pytest.raises(UnsupportedModelError, match=r"digamma.default \(in 0\)") as caught:
        import_module(net, (torch.zeros(1, 8),), 2, "net")
    assert "erfinv.default (in 1)" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "reference, message",
    [
        ("zoo:mobilnet_v2", "did you mean 'mobilenet_v2'"),
        ("no_such_module:build", "no module 'no_such_module'"),
        ("small_net:no_such_function", "no function 'no_such_function'"),
        (
            "just-a-word",
            "write a .onnx, .pt2 or .tflite file, package.module:function, or zoo:NAME",
        ),
    ],
)
def test_a_reference_that_names_nothing(reference, message) -> None:
    with pytest.raises(UnknownNameError, match=message):
        load_model(reference, 2)


def test_all_operators_without_a_derivative_are_listed_with_their_modules(tmp_path) -> None:
    def sampled(x: torch.Tensor) -> torch.Tensor:
        grid = x.reshape(1, 2, 4, 2)
        return nn.functional.grid_sample(grid, grid, align_corners=False).reshape(x.shape)

    net = nn.Sequential(Block(sampled), Block(sampled))
    model = import_module(net, (torch.zeros(1, 8),), 2, "net")
    with pytest.raises(UnsupportedModelError, match=r"relax.image.grid_sample \(in 0, in 1\)"):
        pock_tvm.compile(model, tmp_path / "net")
    assert not (tmp_path / "net").exists()


class Several(nn.Module):
    """Returns two tensors, as a tuple or under keys."""

    def __init__(self, keys=()) -> None:
        super().__init__()
        self.keys, self.a, self.b = keys, nn.Linear(4, 2), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor):
        both = self.a(x), self.b(x)
        return dict(zip(self.keys, both, strict=True)) if self.keys else both


@pytest.mark.parametrize("as_file", [False, True])
@pytest.mark.parametrize(
    "keys, output, width",
    [
        ((), 1, 3),
        ((), "0", 2),
        (("left", "right"), "right", 3),
        (("logits", "other"), None, 2),
        (("other", "logits"), None, 3),
        (("other", "logits"), "other", 2),
        ((), None, "returns 2 tensors (0: 0, 1: 1); say which is the logits with --output-name"),
        (("left", "right"), None, "2 tensors (0: left, 1: right)"),
        (("left", "right"), "up", "has no output 'up'; its outputs are 0: left, 1: right"),
    ],
)
def test_one_of_several_outputs(as_file, keys, output, width, tmp_path) -> None:
    def imported():
        if not as_file:
            return import_module(Several(keys), (torch.zeros(1, 4),), 2, "net", output=output)
        program = torch.export.export(Several(keys), (torch.zeros(2, 4),))
        torch.export.save(program, tmp_path / "net.pt2")
        return import_file(tmp_path / "net.pt2", 2, output=output)

    if isinstance(width, int):
        model = imported()
        main = model.mod["main"]
        assert [int(d) for d in main.ret_ty.shape] == [2, width]
        read = {v.name for v in relax.analysis.free_vars(main.body)}
        assert ("a.weight" in read, "b.weight" in read) == (width == 2, width == 3)
    else:
        with pytest.raises(PockError, match=re.escape(width)):
            imported()


def test_open_axes_of_a_program_get_their_lengths(tmp_path) -> None:
    sizes = {"pixels": {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC}}
    program = torch.export.export(Net().eval(), (torch.zeros(2, 3, 8, 8),), dynamic_shapes=sizes)
    torch.export.save(program, tmp_path / "net.pt2")
    with pytest.raises(UnsupportedModelError, match=r"axis 2 of input pixels .*=5,3,LENGTH,8"):
        import_file(tmp_path / "net.pt2", 5)
    model = import_file(tmp_path / "net.pt2", 5, shapes={"pixels": (5, 3, 10, 8)})
    assert model.inputs[0].shape == (5, 3, 10, 8)
    pock_tvm.compile(model, tmp_path / "net", update="head")
    pixels = np.random.default_rng(0).random((5, 3, 10, 8), "float32")
    with pock_tvm.Trainer(tmp_path / "net") as trainer:
        got = trainer.predict(pixels)
    wanted = program.module()(torch.tensor(pixels)).detach().numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_integer_weights_are_not_trained(tmp_path) -> None:
    class Coded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.codes = nn.Parameter(torch.arange(8).reshape(4, 2), requires_grad=False)
            self.scale = nn.Parameter(torch.ones(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ (self.codes.float() * self.scale)

    model = import_module(Coded(), (torch.zeros(1, 4),), 2, "coded")
    for update in ("cod*", "scale,codes"):
        with pytest.raises(PockError, match=r"codes holds int64; only floating-point tensors"):
            pock_tvm.compile(model, tmp_path / "net", update=update)
    assert not (tmp_path / "net").exists()
    pock_tvm.compile(model, tmp_path / "net", update="full")
    with pock_tvm.Trainer(tmp_path / "net") as trainer:
        assert [t.name for t in trainer.description.tensors if t.trainable] == ["scale"]


@pytest.mark.parametrize("draw", [torch.randn_like, torch.rand_like, torch.bernoulli])
def test_random_numbers_are_refused(draw):
    """TVM's importer would draw them once, at import, or take zeros."""

    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x):
            y = self.fc(x)
            return y + draw(y.sigmoid())

    with pytest.raises(UnsupportedModelError, match=r"draws random numbers.*hand them in"):
        import_module(Noisy(), (torch.zeros(2, 4),), 2, "noisy")
