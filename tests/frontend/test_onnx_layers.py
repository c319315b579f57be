"""ONNX nodes that we convert ourselves: values of ONNX Runtime, gradients of differences."""

import numpy as np
import pytest
from onnx_tables import CompiledNodes, Node

M = ((3, 4),)
PICTURES = (2, 4, 3, 5)
FAR = {"low": 720.0, "high": 800.0}
"""Where exp(x) is no number in float64: a gradient of 0 · ∞ would be none either."""


def ints(*values):
    return np.array(values, "int64")


def resize(name, shape, *, scales=None, sizes=None, **attributes):
    scales = None if scales is None else np.array(scales, "float32")
    sizes = None if sizes is None else np.array(sizes, "int64")
    return Node(f"resize-{name}", "Resize", (shape, None, scales, sizes), attributes)


NODES = [
    Node("elu", "Elu", M, {"alpha": 0.7}),
    Node("elu-far", "Elu", M, **FAR),
    Node("selu", "Selu", M),
    Node("selu-far", "Selu", M, {"alpha": 1.5, "gamma": 1.2}, **FAR),
    Node("mish", "Mish", M),
    Node("mish-far", "Mish", M, **FAR),
    Node("softplus-far", "Softplus", M, **FAR),
    Node("prelu-channels", "PRelu", (PICTURES, (4, 1, 1))),
    Node("prelu-last-axis", "PRelu", (*M, (4,))),
    Node("thresholded-relu", "ThresholdedRelu", M, {"alpha": 0.3}),
    Node("max", "Max", ((3, 4), (4,), (3, 1))),
    Node("min", "Min", ((3, 4), (4,))),
    Node("mean", "Mean", ((3, 4), (4,), (3, 4))),
    Node("sum-of-three", "Sum", ((3, 4), (4,), (1, 1))),
    Node("instance-norm", "InstanceNormalization", (PICTURES, (4,), (4,)), {"epsilon": 1e-3}),
    Node("group-norm", "GroupNormalization", (PICTURES, (4,), (4,)), {"num_groups": 2}),
    Node("mean-variance-norm", "MeanVarianceNormalization", (PICTURES,)),
    Node("l2-norm", "LpNormalization", M, {"axis": 0}),
    Node("l1-norm", "LpNormalization", M, {"axis": 1, "p": 1}),
    Node("cumsum", "CumSum", (*M, ints(1))),
    Node("cumsum-back", "CumSum", (*M, ints(0)), {"reverse": 1, "exclusive": 1}),
    Node("reverse-sequence", "ReverseSequence", ((4, 3, 2), ints(1, 4, 3))),
    Node("space-to-depth", "SpaceToDepth", ((1, 2, 4, 6),), {"blocksize": 2}),
    Node(
        "conv-same-upper",
        "Conv",
        ((1, 2, 6, 5), (3, 2, 2, 3)),
        {"auto_pad": "SAME_UPPER", "strides": [2, 1]},
    ),
    Node("conv-same-lower", "Conv", ((1, 2, 7), (3, 2, 4)), {"auto_pad": "SAME_LOWER"}),
    Node(
        "conv-transpose-shape",
        "ConvTranspose",
        ((1, 1, 3, 3), (1, 2, 3, 3)),
        {"strides": [3, 2], "output_shape": [10, 8]},
    ),
    Node(
        "conv-transpose-cut",
        "ConvTranspose",
        ((1, 1, 3, 3), (1, 2, 3, 3)),
        {"strides": [2, 2], "output_shape": [6, 5]},
    ),
    resize("nearest", (1, 2, 3, 4), scales=[1, 1, 2, 1.6]),
    resize("linear-scales", (1, 1, 4, 4), scales=[1, 1, 0.6, 1.7], mode="linear"),
    resize("cubic-sizes", (1, 1, 4, 5), sizes=[1, 1, 7, 3], mode="cubic"),
    resize("one-axis", (1, 2, 5), sizes=[1, 2, 8], mode="linear"),
    resize("volume", (1, 1, 2, 3, 4), scales=[1, 1, 2, 2, 0.5], mode="linear"),
    resize(
        "corners",
        (1, 1, 4, 5),
        sizes=[1, 1, 7, 3],
        mode="linear",
        coordinate_transformation_mode="align_corners",
    ),
    Node(
        "attention",
        "Attention",
        ((2, 3, 4), (4, 12), (12,)),
        {"num_heads": 2},
        domain="com.microsoft",
    ),
    Node("attention-standard", "Attention", ((2, 2, 3, 4), (2, 2, 5, 4), (2, 2, 5, 4))),
    Node(
        "scatter-max",
        "ScatterElements",
        (*M, ints([0, 2, 1, 2], [2, 2, 0, 0]), (2, 4)),
        {"reduction": "max"},
    ),
    Node("scatter-mul", "ScatterND", (*M, ints([2], [0], [2]), (3, 4)), {"reduction": "mul"}),
]


@pytest.fixture(scope="module")
def compiled() -> CompiledNodes:
    return CompiledNodes(NODES)


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.name)
def test_node_agrees_with_onnx_runtime_and_with_differences(compiled, node) -> None:
    compiled.check(node)
