"""ONNX's LSTM, GRU and RNN: values against ONNX Runtime, gradients against differences."""

import numpy as np
import pytest
import torch
import tvm
from onnx_exports import EXPORTERS, export
from onnx_tables import CompiledNodes, Node
from torch import nn
from tvm import relax

from pock_tvm.frontend.onnx_file import import_onnx_file
from pock_tvm.relay_passes import pipeline
from pock_tvm.relay_passes.derive_backward import DeriveBackward
from pock_tvm.relay_passes.operators import LOWERINGS

STEPS, BATCH, FEATURES, HIDDEN = 2, 3, 4, 2
LENGTHS = np.array([2, 1, 2], "int32")


def layer(
    name, op, *, gates, directions=1, bias=True, lengths=None, h=False, c=False, p=False, **attrs
):
    shapes = [
        (STEPS, BATCH, FEATURES),
        (directions, gates * HIDDEN, FEATURES),
        (directions, gates * HIDDEN, HIDDEN),
        (directions, 2 * gates * HIDDEN) if bias else None,
        lengths,
        (directions, BATCH, HIDDEN) if h else None,
    ]
    if op == "LSTM":
        shapes += [
            (directions, BATCH, HIDDEN) if c else None,
            (directions, 3 * HIDDEN) if p else None,
        ]
    outputs = 3 if op == "LSTM" else 2
    # Weights of about 1/√H: gates that are neither open nor shut have gradients to look at.
    return Node(name, op, tuple(shapes), {"hidden_size": HIDDEN, **attrs}, -0.9, 0.9, outputs)


def lstm(name, **options):
    return layer(name, "LSTM", gates=4, **options)


def gru(name, **options):
    return layer(name, "GRU", gates=3, **options)


NODES = [
    lstm("lstm-no-bias", bias=False, direction="reverse"),
    lstm("lstm-both", direction="bidirectional", directions=2, h=True, c=True, lengths=LENGTHS),
    lstm("lstm-peepholes", p=True, clip=0.5),
    lstm("lstm-activations", activations=["Tanh", "Sigmoid", "Relu"], lengths=LENGTHS),
    gru("gru-no-bias", bias=False, lengths=LENGTHS, direction="reverse"),
    gru("gru-both", direction="bidirectional", directions=2, linear_before_reset=1, h=True),
    layer("rnn", "RNN", gates=1, activations=["Relu"], h=True),
    layer("rnn-both", "RNN", gates=1, direction="bidirectional", directions=2),
]


@pytest.fixture(scope="module")
def compiled() -> CompiledNodes:
    return CompiledNodes(NODES)


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.name)
def test_node_agrees_with_onnx_runtime_and_with_differences(compiled, node) -> None:
    compiled.check(node)


class Both(nn.Module):
    """A layer in both directions, and a number to derive."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.recurrent = kind(4, 3, bidirectional=True, batch_first=True)
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        y, _ = self.recurrent(x)
        return self.head(y[:, -1]).square().sum()


@pytest.mark.parametrize(
    "kind, exporter", list(zip([nn.LSTM, nn.GRU], EXPORTERS, strict=True)), ids=EXPORTERS
)
def test_exported_layers_keep_names_and_gradients(kind, exporter, tmp_path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Both(kind).double()
        x = torch.randn(2, 2, 4, dtype=torch.float64)
    path = export(net, (x,), tmp_path / "net.onnx", exporter, dynamic=False)
    model = import_onnx_file(path, 2)
    net(x).backward()
    wanted = {name: p.grad.numpy() for name, p in net.named_parameters()}
    assert set(model.parameters) == set(wanted)
    mod = pipeline.canonicalize("frozen", {})(model.mod)
    axes = {str(n): tuple(map(int, a)) for n, a in mod["main"].attrs["stored_axes"].items()}
    mod = relax.transform.LegalizeOps(LOWERINGS)(DeriveBackward(list(wanted))(mod))
    target = tvm.target.Target({"kind": "llvm", "opt-level": 0})
    vm = relax.VirtualMachine(tvm.compile(mod, target=target), tvm.cpu())
    values = {**model.parameters, "x": x.numpy()}
    arguments = [
        np.ascontiguousarray(values[p.name].transpose(axes.get(p.name, range(values[p.name].ndim))))
        for p in mod["main"].params
    ]
    loss, *found = vm["main"](*map(tvm.runtime.tensor, arguments))
    np.testing.assert_allclose(loss.numpy(), net(x).item(), rtol=1e-12)
    for (name, theirs), ours in zip(wanted.items(), found, strict=True):
        back = np.argsort(axes[name]) if name in axes else range(theirs.ndim)
        ours = np.transpose(ours.numpy(), back)
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12, err_msg=name)
