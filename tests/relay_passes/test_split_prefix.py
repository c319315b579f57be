"""SplitPrefix: what is split and where it ends, with the values of the whole."""

import numpy as np
import pytest
from pass_checks import main_of, operators, random_arguments, run
from tvm import relax
from tvm.relax import op

from pock_tvm.relay_passes.rewrite import is_call_to, rewrite_main, static_shape
from pock_tvm.relay_passes.split_prefix import SplitPrefix

SAMPLES = 4
SHAPES = {"x": (SAMPLES, 8, 8, 3), "w": (3, 3, 3, 16), "b": (16,), "v": (16, 16)}


def copied(mod):
    """Make the views copies: outside of ``extract_step`` nobody knows views."""

    def copy(_bb, value):
        if is_call_to(value, "pock.rows"):
            begin, count = (int(value.attrs[k]) for k in ("begin", "count"))
            return op.strided_slice(value.args[0], [0], [begin], [begin + count])
        if is_call_to(value, "pock.join_rows"):
            return op.concat(list(value.args), 0)
        return value

    return rewrite_main(mod, copy)


def conv(x, w):
    return op.nn.conv2d(x, w, padding=1, data_layout="NHWC", kernel_layout="HWIO")


def picture_net(bb, x, w, b, v):
    """A convolution, then a linear layer, and a loss that mixes the samples."""
    scale = bb.emit(op.exp(b))
    y = bb.emit(op.nn.relu(bb.emit(bb.emit(conv(x, w)) * scale)))
    z = bb.emit(op.matmul(bb.emit(op.mean(y, [1, 2])), v))
    return bb.emit(op.sum(bb.emit(z * z)))


def same_values(before, after):
    arguments = random_arguments(before)
    for got, wanted in zip(run(copied(after), *arguments), run(before, *arguments), strict=True):
        np.testing.assert_array_equal(got, wanted)


def split(mod, changing=(), count=2, inputs=("x",)):
    before = mod.script()
    after = SplitPrefix(inputs, changing, count)(mod)
    assert mod.script() == before
    relax.analysis.well_formed(after)
    return after


@pytest.mark.parametrize("count", [2, 4])
def test_the_prefix_ends_at_what_learns(count):
    mod = main_of(picture_net, SHAPES)
    after = split(mod, changing=("v",), count=count)
    names = operators(after)
    assert names.count("nn.conv2d") == names.count("mean") == names.count("pock.rows") == count
    assert names.count("matmul") == names.count("exp") == 1
    same_values(mod, after)


def test_all_of_a_step_without_changes_is_prefix_up_to_the_loss():
    mod = main_of(picture_net, SHAPES)
    names = operators(split(mod))
    assert names.count("matmul") == 2
    assert names.count("sum") == 1


def test_parts_that_a_kernel_could_not_load_are_copied():
    shapes = {**SHAPES, "x": (SAMPLES, 3, 3, 3)}  # 27 doubles a sample: no multiple of 64 bytes
    mod = main_of(picture_net, shapes)
    after = split(mod, changing=("v",), count=4)
    assert "pock.rows" not in operators(after)
    assert "strided_slice" in operators(after)
    same_values(mod, after)


def test_a_view_is_taken_of_the_joined_whole():
    def build(bb, x, w, b, v):
        y = bb.emit(op.nn.relu(bb.emit(conv(x, w))))
        rows = bb.emit(op.reshape(y, (SAMPLES * 64, 16)))
        return bb.emit(op.matmul(rows, v)), bb.emit(op.exp(b))

    mod = main_of(build, SHAPES)
    after = split(mod, changing=("v",))
    (joined,) = (
        b.value
        for b in after["main"].body.blocks[0].bindings
        if is_call_to(b.value, "pock.join_rows")
    )
    assert static_shape(joined) == (SAMPLES, 8, 8, 16)
    assert operators(after).count("reshape") == 1
    same_values(mod, after)


def test_an_operand_with_a_row_for_each_sample_is_split_too():
    def build(bb, x, w, b, v):
        token = bb.emit(op.broadcast_to(b, (SAMPLES, 1, 16)))
        y = bb.emit(op.reshape(bb.emit(conv(x, w)), (SAMPLES, 64, 16)))
        return bb.emit(op.matmul(bb.emit(op.concat([token, y], 1)), v))

    mod = main_of(build, SHAPES)
    after = split(mod, changing=("v",))
    assert operators(after).count("concat") == 2
    same_values(mod, after)


def test_nothing_is_split_where_the_first_layer_learns():
    mod = main_of(picture_net, SHAPES)
    assert split(mod, changing=("w",)).script() == mod.script()
    assert split(mod, changing=("v",), count=1).script() == mod.script()


def test_a_count_that_does_not_divide_the_samples_splits_nothing():
    mod = main_of(picture_net, SHAPES)
    assert split(mod, changing=("v",), count=3).script() == mod.script()


def test_samples_that_meet_in_a_product_end_the_prefix():
    def contrast(bb, x, w, b, v):
        y = bb.emit(op.mean(bb.emit(conv(x, w)), [1, 2]))
        return bb.emit(op.matmul(y, bb.emit(op.permute_dims(y))))

    mod = main_of(contrast, SHAPES)
    after = split(mod)
    assert operators(after).count("nn.conv2d") == 2
    assert operators(after).count("matmul") == 1
    same_values(mod, after)


def test_a_view_that_both_sides_read():
    def build(bb, x, w, b, v):
        pixels = bb.emit(op.reshape(x, (SAMPLES, 4, 16, 3)))
        y = bb.emit(op.mean(bb.emit(conv(pixels, w)), [1, 2]))
        return bb.emit(op.matmul(y, v)), bb.emit(op.cumsum(pixels, 0))

    mod = main_of(build, SHAPES)
    after = split(mod, changing=("v",))
    assert operators(after).count("nn.conv2d") == 2
    same_values(mod, after)
