"""Which tiles are chosen: as measured on Zen 5, and none where a weight's bytes cost more."""

from dataclasses import replace

import pytest

from pock_tvm.compilation.winograd import tile_outputs, transformed_weights
from pock_tvm.relay_passes.transform_frozen_conv2d import Use
from pock_tvm.targets import get_target

ZEN5 = replace(get_target("x86-64-v4"), core="znver5", cores=2)


@pytest.mark.parametrize(
    ("side", "channels", "forward", "gradient"),
    [(56, 64, 4, 4), (28, 128, 4, 4), (14, 256, 2, 2), (7, 512, None, None)],
)
def test_the_fastest_of_those_measured(side, channels, forward, gradient):
    shape = (1, side, side, channels)
    uses = [Use(shape, channels, False), Use(shape, channels, True)]
    assert tile_outputs(uses[:1], ZEN5) == forward
    assert tile_outputs(uses[1:], ZEN5) == gradient
    assert tile_outputs(uses, ZEN5) == forward


def test_few_channels_are_not_worth_their_transforms():
    assert tile_outputs([Use((1, 56, 56, 16), 16, False)], ZEN5) is None


@pytest.mark.parametrize("target", ["opencl", "hexagon-v68", "cortex-m7", "riscv64"])
def test_machines_without_vectors_of_floats_or_with_a_gpu_have_none(target):
    assert transformed_weights([], {}, get_target(target)) == {}
