import pytest

from pock_tvm.update.blocks import block_of, blocks_of, within_blocks


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("layer.3.conv.weight", "layer.3"),
        ("bert.encoder.layer.11.attention.self.query.weight", "bert.encoder.layer.11"),
        ("features.7.conv.0.0.weight", "features.7"),
        ("layer1.0.conv1.weight", "layer1.0"),
        ("resnet.stages.1.layers.2.layer.0.convolution.weight", "resnet.stages.1.layers.2"),
        ("blocks.2.1.conv_pw.weight", "blocks.2.1"),
        ("blocks.3.0.weight", "blocks.3"),  # a module of block 3, not a block of stage 3
        ("transformer.h.5.mlp.c_fc.weight", "transformer.h.5"),
        ("stem.weight", None),
        ("conv2.weight", None),
    ],
)
def test_block_of(name, block):
    assert block_of(name) == block


NAMES = ("stem.weight", "layer.0.weight", "layer.1.weight", "layer.2.weight", "head.weight")


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ("last 1", NAMES[3:]),
        ("last:2", NAMES[2:]),
        ("0-1", NAMES[1:3]),
        ((0, 2), (NAMES[1], NAMES[3])),
    ],
)
def test_within_blocks(asked, names):
    assert within_blocks(asked, NAMES, "here") == names


def test_a_numbered_layer_is_no_block_beside_others_that_hold_modules():
    names = ["stages.0.layers.0.conv.weight", "stages.0.layers.1.conv.weight"]
    assert blocks_of([*names, "classifier.1.weight"]) == ["stages.0.layers.0", "stages.0.layers.1"]
    assert blocks_of(["0.weight", "2.weight", "2.bias"]) == ["0", "2"]
