"""A share of the channels learns: as in PyTorch, in place, from a share of the activations."""

from fractions import Fraction

import numpy as np
import pytest
import small_transformer
import sparse_net
import torch
from saved_activations import kept_for, live_across_the_loss
from torch.func import functional_call

import pock_tvm
from pock_tvm import Trainer
from pock_tvm.frontend.torch_export import import_module
from pock_tvm.optimizers import SGD, AdamW
from pock_tvm.update import Rule, UpdateScheme

RATE = 0.01
QUARTER = UpdateScheme(
    name="quarter",
    trainable=("classifier.*",),
    rules=(
        Rule(what=("bias",), blocks="last 2"),
        Rule(what=("first_conv",), blocks="last 2", channels=Fraction(1, 4)),
        Rule(what=("depthwise",), blocks=(1,), channels=Fraction(1, 8)),
        Rule(match=("last.weight",), channels=Fraction(1, 2)),
    ),
)
WHOLE = UpdateScheme(
    name="whole", trainable=("classifier.*",), rules=(Rule(what=("first_conv",), blocks="last 2"),)
)
SPARSE = {
    "layer.1.expand.weight": (1, 4),
    "layer.2.expand.weight": (1, 4),
    "layer.1.depthwise.weight": (0, 4),
    "last.weight": (1, 8),
}


def batch(seed=0):
    rng = np.random.default_rng(seed)
    pictures = rng.standard_normal((sparse_net.BATCH, 3, 16, 16)).astype("float32")
    return pictures, rng.integers(0, sparse_net.CLASSES, sparse_net.BATCH).astype("int32")


def compiled(folder, scheme, optimizer=None, **options):
    module, inputs = sparse_net.build()
    model = import_module(module, inputs, sparse_net.BATCH, "sparse")
    pock_tvm.compile(model, folder, update=scheme, optimizer=optimizer or SGD(), **options)
    return module.eval()


class Masked:
    """PyTorch's side: the channels that learn are leaves of their own, put into the weight."""

    def __init__(self, module, tensors, make_optimizer):
        self.module = module
        self.leaves, self.inside = {}, {}
        named = dict(module.named_parameters())
        for name, done in tensors.items():
            value = named[name].detach()
            if done["kind"] == "channels":
                index = torch.tensor(done["channels"])
                self.inside[name] = (value.clone(), done["axis"], index)
                value = value.index_select(done["axis"], index)
            self.leaves[name] = torch.nn.Parameter(value.clone())
        self.optimizer = make_optimizer(list(self.leaves.values()))

    def weights(self):
        weights = dict(self.leaves)
        for name, (whole, axis, index) in self.inside.items():
            weights[name] = whole.index_copy(axis, index, self.leaves[name])
        return weights

    def step(self, pictures, labels):
        inputs = torch.tensor(pictures)
        inputs = inputs.long() if inputs.dtype == torch.int32 else inputs
        logits = functional_call(self.module, self.weights(), (inputs,))
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(labels).long())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


@pytest.mark.parametrize(
    ("optimizer", "reference"),
    [
        (SGD(momentum=0.9), lambda p: torch.optim.SGD(p, RATE, 0.9)),
        (AdamW(), lambda p: torch.optim.AdamW(p, RATE)),
    ],
    ids=["momentum", "adamw"],
)
def test_steps_follow_pytorch_and_leave_the_rest_alone(tmp_path, optimizer, reference):
    module = compiled(tmp_path / "net", QUARTER, optimizer)
    first = {n: p.detach().numpy().copy() for n, p in module.named_parameters()}
    pictures, labels = batch()
    with Trainer(tmp_path / "net", threads=2) as trainer:
        done = trainer.description.update["tensors"]
        masked = Masked(module, done, reference)
        for _ in range(6):
            wanted = masked.step(pictures, labels)
            assert trainer.step(pictures, labels, RATE) == pytest.approx(wanted, rel=1e-5)
        weights = masked.weights()
        for name, before in first.items():
            got = trainer.tensor(name)
            if name not in done:
                np.testing.assert_array_equal(got, before, err_msg=name)
                continue
            wanted = weights[name].detach().numpy()
            # The norm cancels what a bias before it would do; there AdamW follows rounding alone.
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=2e-5, err_msg=name)
            if name in SPARSE:
                axis, count = SPARSE[name]
                learns = np.isin(np.arange(before.shape[axis]), done[name]["channels"])
                assert learns.sum() == count
                rest = np.compress(~learns, got, axis)
                assert rest.tobytes() == np.compress(~learns, before, axis).tobytes(), name
                assert (np.compress(learns, got, axis) != np.compress(learns, before, axis)).any()


@pytest.fixture(scope="module")
def with_gradients(tmp_path_factory):
    """The net, and an artifact that keeps the gradients of its sparse scheme."""
    folder = tmp_path_factory.mktemp("sparse") / "net"
    return compiled(folder, QUARTER, keep_gradients=True), folder


def test_the_gradient_is_the_slice_of_pytorchs(with_gradients):
    module, folder = with_gradients
    pictures, labels = batch(1)
    loss = torch.nn.functional.cross_entropy(
        module(torch.tensor(pictures)), torch.tensor(labels).long()
    )
    loss.backward()
    gradients = {n: p.grad.numpy() for n, p in module.named_parameters() if p.grad is not None}
    with Trainer(folder) as trainer:
        trainer.step(pictures, labels, 0.0)
        for name, done in trainer.description.update["tensors"].items():
            if done["kind"] != "channels":
                continue
            stored = trainer.tensor(f"gradient.{name}[channels]")
            axes = trainer.description.tensor(name).axes
            got = stored.transpose(np.argsort(axes)) if axes else stored
            wanted = np.take(gradients[name], done["channels"], done["axis"])
            assert np.linalg.norm(got - wanted) <= 1e-4 * np.linalg.norm(wanted), name


def test_the_scheme_simulated_is_the_scheme_compiled(with_gradients):
    """The channels of the manifest are those that numpy picks from the weights of the module."""
    module, folder = with_gradients
    with Trainer(folder) as trainer:
        done = trainer.description.update["tensors"]
        for name, (axis, count) in SPARSE.items():
            weight = dict(module.named_parameters())[name].detach().numpy().astype("float64")
            norms = np.square(np.moveaxis(weight, axis, 0)).reshape(weight.shape[axis], -1).sum(1)
            assert done[name]["channels"] == sorted(np.argsort(-norms)[:count].tolist())
            assert (done[name]["axis"], done[name]["of"]) == (axis, weight.shape[axis])


def test_a_quarter_of_the_channels_keeps_a_quarter_of_the_activation(tmp_path):
    quarter = UpdateScheme(
        name="quarter",
        trainable=("classifier.*",),
        rules=(Rule(what=("first_conv",), blocks="last 2", channels=Fraction(1, 4)),),
    )
    compiled(tmp_path / "quarter", quarter, SGD(momentum=0.9))
    compiled(tmp_path / "whole", WHOLE, SGD(momentum=0.9))
    for name in ("layer.1.expand.weight", "layer.2.expand.weight"):
        whole = kept_for(tmp_path / "whole", name)
        assert whole == 4 * sparse_net.BATCH * 8 * 8 * 16
        assert 4 * kept_for(tmp_path / "quarter", name) == whole
    kept = {n: sum(live_across_the_loss(tmp_path / n).values()) for n in ("quarter", "whole")}
    assert kept["whole"] - kept["quarter"] == 2 * 3 * 4 * sparse_net.BATCH * 8 * 8 * 16 // 4


def test_linear_layers_of_a_transformer(tmp_path):
    """Queries, keys and values read one input, each another quarter of it."""
    module, inputs = small_transformer.build()
    model = import_module(module, inputs, small_transformer.BATCH, "net")
    rule = Rule(what=("qkv", "first_ffn"), channels=Fraction(1, 4))
    scheme = UpdateScheme(name="quarter", trainable=("classifier.*",), rules=(rule,))
    pock_tvm.compile(model, tmp_path / "net", update=scheme, optimizer=SGD(momentum=0.9))
    first = {n: p.detach().numpy().copy() for n, p in module.named_parameters()}
    rng = np.random.default_rng(0)
    shape = (small_transformer.BATCH, small_transformer.TOKENS)
    tokens = rng.integers(0, small_transformer.VOCABULARY, shape).astype("int32")
    labels = rng.integers(0, small_transformer.CLASSES, shape[:1]).astype("int32")
    with Trainer(tmp_path / "net", threads=2) as trainer:
        done = trainer.description.update["tensors"]
        sparse = [name for name, d in done.items() if d["kind"] == "channels"]
        assert sparse == [f"block.{n}.weight" for n in ("query", "key", "value", "up")]
        masked = Masked(module, done, lambda p: torch.optim.SGD(p, RATE, 0.9))
        for _ in range(6):
            wanted = masked.step(tokens, labels)
            assert trainer.step(tokens, labels, RATE) == pytest.approx(wanted, rel=1e-5)
        for name in sparse:
            got, weights = trainer.tensor(name), masked.weights()[name].detach().numpy()
            assert np.linalg.norm(got - weights) <= 1e-4 * np.linalg.norm(weights - first[name])
            rest = sorted(set(range(done[name]["of"])) - set(done[name]["channels"]))
            assert len(rest) == 24
            assert got[:, rest].tobytes() == first[name][:, rest].tobytes()
            slot = trainer.description.tensor(f"optimizer.momentum.{name}[channels]")
            assert 4 * slot.nbytes == got.nbytes
