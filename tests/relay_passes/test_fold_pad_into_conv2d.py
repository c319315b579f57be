"""FoldPadIntoConv2d: which pads become padding, and which stay."""

from pass_checks import check_pass, main_of, operators
from tvm.relax.op import nn

from pock_tvm.relay_passes.convert_to_channels_last import ConvertToChannelsLast
from pock_tvm.relay_passes.fold_pad_into_conv2d import FoldPadIntoConv2d

SHAPES = {"x": (1, 3, 6, 6), "w": (4, 3, 3, 3)}


def values_agree(before, after) -> None:
    """Compare through channels-last: our lowering of conv2d knows no other layout."""
    from pass_checks import random_arguments, run

    arguments = random_arguments(before)
    results = [run(ConvertToChannelsLast()(mod), *arguments)[0] for mod in (before, after)]
    assert abs(results[0] - results[1]).max() < 1e-12


def test_padding_adds_up() -> None:
    def build(bb, x, w):
        return bb.emit(nn.conv2d(bb.emit(nn.pad(x, [0, 0, 0, 0, 0, 1, 2, 1])), w, padding=[1, 1]))

    def folded(bb, x, w):
        return bb.emit(nn.conv2d(x, w, padding=[1, 3, 2, 2]))

    before = main_of(build, SHAPES)
    after = check_pass(FoldPadIntoConv2d(), before, main_of(folded, SHAPES), same_values=False)
    values_agree(before, after)


def test_a_pad_of_width_zero_disappears() -> None:
    before = main_of(lambda bb, x, w: bb.emit(nn.pad(x, [0] * 8) + x), SHAPES)
    assert operators(check_pass(FoldPadIntoConv2d(), before)) == ["add"]


def test_a_pad_with_ones_stays() -> None:
    def build(bb, x, w):
        return bb.emit(nn.conv2d(bb.emit(nn.pad(x, [0, 0, 0, 0, 1, 1, 1, 1], pad_value=1.0)), w))

    before = main_of(build, SHAPES)
    check_pass(FoldPadIntoConv2d(), before, before, same_values=False)


def test_a_pad_of_channels_stays() -> None:
    shapes = {"x": (1, 2, 6, 6), "w": (4, 3, 3, 3)}

    def build(bb, x, w):
        return bb.emit(nn.conv2d(bb.emit(nn.pad(x, [0, 0, 0, 1, 1, 1, 1, 1])), w))

    before = main_of(build, shapes)
    check_pass(FoldPadIntoConv2d(), before, before, same_values=False)
