"""ONNX's LSTM, GRU and RNN: values against ONNX Runtime, gradients against differences."""

import numpy as np
import pytest
from onnx_tables import CompiledNodes, Node

STEPS, BATCH, FEATURES, HIDDEN = 3, 3, 4, 2
LENGTHS = np.array([3, 1, 2], "int32")


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
    lstm("lstm-no-bias", bias=False, h=True, c=True),
    lstm("lstm-reverse", direction="reverse"),
    lstm("lstm-both", direction="bidirectional", directions=2, h=True, c=True, lengths=LENGTHS),
    lstm("lstm-peepholes", p=True, clip=0.5),
    lstm("lstm-activations", activations=["Tanh", "Sigmoid", "Relu"], lengths=LENGTHS),
    gru("gru", h=True),
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
