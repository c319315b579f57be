"""ConvertToChannelsLast: one layout inside, the old one outside, equal values."""

import numpy as np
import torch
import torch.nn.functional as F
from pass_checks import check_pass, main_of, operators, random_arguments, run
from tvm import relax
from tvm.relax.op import (
    add,
    clip,
    concat,
    cumsum,
    greater,
    mean,
    nn,
    reshape,
    split,
    strided_slice,
    where,
)

from pock_tvm.relay_passes.convert_to_channels_last import ConvertToChannelsLast
from pock_tvm.relay_passes.hoist_parameter_layout import HoistParameterLayout
from pock_tvm.relay_passes.operators.dropout import dropout
from pock_tvm.relay_passes.rewrite import bindings_of, is_call_to
from pock_tvm.relay_passes.simplify_shapes import SimplifyShapes

SHAPES = {"x": (2, 3, 8, 8), "w": (4, 3, 3, 3), "d": (4, 1, 3, 3), "b": (4, 1, 1)}


def small_net(bb, x, w, d, b):
    y = bb.emit(add(bb.emit(nn.conv2d(x, w, padding=1, strides=2)), b))
    y = bb.emit(clip(y, 0, 6))
    y = bb.emit(nn.conv2d(y, d, padding=1, groups=4))
    y = bb.emit(nn.max_pool2d(y, pool_size=(2, 2), strides=(2, 2)))
    pooled = bb.emit(mean(y, [2, 3], keepdims=True))
    return bb.emit(reshape(pooled, (2, 4)))


def test_small_net_matches_torch() -> None:
    before = main_of(small_net, SHAPES)
    after = check_pass(ConvertToChannelsLast(), before, same_values=False)
    arguments = random_arguments(before)
    x, w, d, b = (torch.tensor(a) for a in arguments)
    y = torch.clamp(F.conv2d(x, w, padding=1, stride=2) + b, 0, 6)
    y = F.max_pool2d(F.conv2d(y, d, padding=1, groups=4), 2).mean((2, 3))
    np.testing.assert_allclose(run(after, *arguments)[0], y.numpy(), rtol=1e-12)


def test_no_transpose_is_left_between_layers() -> None:
    mod = ConvertToChannelsLast()(main_of(small_net, SHAPES))
    mod = HoistParameterLayout()(SimplifyShapes()(mod))
    assert "permute_dims" not in operators(mod)
    assert dict(mod["main"].attrs["stored_axes"]) == {
        "x": (0, 2, 3, 1),
        "w": (2, 3, 1, 0),
        "d": (2, 3, 1, 0),
    }


def test_an_operator_without_a_channels_last_form_reads_the_old_layout() -> None:
    def build(bb, x, w, d, b):
        y = bb.emit(nn.conv2d(x, w, padding=1))
        return bb.emit(cumsum(y, 1))

    before = main_of(build, SHAPES)
    after = ConvertToChannelsLast()(before)
    arguments = random_arguments(before)
    y = F.conv2d(*(torch.tensor(a) for a in arguments[:2]), padding=1)
    np.testing.assert_allclose(run(after, *arguments)[0], y.cumsum(1), rtol=1e-12)


def test_a_net_without_convolutions_stays() -> None:
    before = main_of(lambda bb, x, **_: bb.emit(relax.op.exp(x)), SHAPES)
    check_pass(ConvertToChannelsLast(), before, before)


def sequence_net(bb, x, w, d, g):
    y = bb.emit(nn.relu(bb.emit(nn.conv1d(x, w, padding=1, strides=2))))
    y = bb.emit(nn.group_norm(y, g, g, 2, 1, [2]))
    y = bb.emit(nn.conv1d_transpose(y, d, strides=2))
    return bb.emit(nn.max_pool1d(y, pool_size=2))


def test_a_net_of_sequences_runs_on_the_kernels_of_pictures() -> None:
    shapes = {"x": (2, 3, 9), "w": (4, 3, 3), "d": (4, 3, 2), "g": (4,)}
    mod = HoistParameterLayout()(
        SimplifyShapes()(ConvertToChannelsLast()(main_of(sequence_net, shapes)))
    )
    left = [name for name in operators(mod) if name != "reshape"]
    assert left == [
        "nn.conv2d",
        "nn.relu",
        "nn.group_norm",
        "pock.conv2d_data_grad",
        "nn.max_pool2d",
        "permute_dims",  # of the output
    ]


def upsampling_net(bb, x, w, d, b):
    y = bb.emit(nn.conv2d(x, w, padding=1))
    y = bb.emit(nn.softmax(bb.emit(concat([y, y], axis=1)), axis=1))
    parts = bb.emit(split(y, 2, axis=1))
    y = bb.emit(where(bb.emit(greater(parts[0], b)), parts[0], parts[1]))
    y = bb.emit(strided_slice(y, [1, 2], [0, 1], [4, 7]))
    return bb.emit(nn.pixel_shuffle(y, 2))


def test_operators_between_pictures_are_carried_along() -> None:
    before = main_of(upsampling_net, SHAPES)
    after = check_pass(ConvertToChannelsLast(), before, same_values=False)
    left = HoistParameterLayout()(SimplifyShapes()(after))
    assert operators(left).count("permute_dims") == 1  # inside the shuffle
    x, w, _, b = arguments = random_arguments(before)
    y = F.conv2d(torch.tensor(x), torch.tensor(w), padding=1)
    first, second = torch.cat([y, y], 1).softmax(1).chunk(2, 1)
    y = torch.where(first > torch.tensor(b), first, second)[:, :, 1:7]
    y = F.pixel_shuffle(y, 2)
    np.testing.assert_allclose(run(after, *arguments)[0], y.numpy(), rtol=1e-12)


def test_dropout_keeps_the_layout_unless_it_drops_whole_channels() -> None:
    def build(bb, x, w, d, b):
        y = bb.emit(nn.conv2d(x, w, padding=1))
        y = bb.emit(dropout(y, p=0.5, stream=0))
        return bb.emit(dropout(y, p=0.5, stream=1, shared=[2, 3]))

    mod = ConvertToChannelsLast()(main_of(build, SHAPES))
    values = [b.value for b in bindings_of(mod["main"])]
    calls = [value for value in values if is_call_to(value, "pock.dropout")]
    assert [tuple(int(n) for n in call.ty.shape) for call in calls] == [(2, 8, 8, 4), (2, 4, 8, 8)]
