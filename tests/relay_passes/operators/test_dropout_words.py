"""``pock.dropout``: the words are Philox's, and they drop what they should."""

import numpy as np
import philox
import pytest
import tvm
from tvm import relax

from pock_tvm.relay_passes.operators.dropout import dropout, dropout_keys


def drop(x, counter, p, stream, shared=()):
    bb = relax.BlockBuilder()
    var = relax.Var("x", relax.TensorType(x.shape, str(x.dtype)))
    count = relax.Var("counter", relax.TensorType((2,), "int64"))
    with bb.function("main", [var, count]):
        with bb.dataflow():
            keys = bb.emit(dropout_keys(count, stream + 1))
            out = bb.emit_output(dropout(var, keys, p=p, stream=stream, shared=shared))
        bb.emit_func_output(out)
    vm = relax.VirtualMachine(tvm.compile(bb.get(), target="llvm"), tvm.cpu())
    return vm["main"](tvm.runtime.tensor(x), tvm.runtime.tensor(np.array(counter))).numpy()


@pytest.mark.parametrize(
    "counter, key, words",
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0] * 2, [0], [0xFF1DAE59, 0x6CD10DF2]),
        ([0xFFFFFFFF] * 2, [0xFFFFFFFF], [0x2C3F628B, 0xAB4FD7AD]),
        ([0x243F6A88, 0x85A308D3], [0x13198A2E], [0xDD7CE038, 0xF62A4C12]),
    ],
)
def test_the_plain_integers_give_the_known_answers_of_random123(counter, key, words) -> None:
    if len(counter) == 4:
        assert philox.philox_4x32(counter, key) == words
    else:
        assert philox.philox_2x32(counter, *key) == words


@pytest.mark.parametrize(
    "seed, draw, stream, p", [(0, 0, 0, 0.5), (7, 3, 2, 0.1), (2**63 - 1, 2**40 + 5, 1, 0.9)]
)
def test_the_masks_are_those_of_the_plain_integers(seed, draw, stream, p) -> None:
    x = np.random.default_rng(0).uniform(1, 2, (3, 50))
    wanted = x * philox.kept(seed, draw, stream, x.shape, p) / (1 - p)
    np.testing.assert_allclose(drop(x, [seed, draw], p, stream), wanted, rtol=1e-15)


def test_with_shared_axes_whole_channels_are_dropped() -> None:
    y = drop(np.ones((5, 8, 3, 2), "float32"), [1, 0], 0.25, 0, [2, 3])
    mask = philox.kept(1, 0, 0, (5, 8), 0.25)
    assert 0 < mask.sum() < mask.size
    np.testing.assert_array_equal(y != 0, np.broadcast_to(mask[:, :, None, None], y.shape))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_the_share_that_is_kept_and_the_scale(p) -> None:
    n = 200_000
    y = drop(np.ones(n, "float32"), [123, 4], p, 1)
    assert set(np.unique(y)) == {0.0, np.float32(1 / (1 - p))}
    # five standard deviations of a binomial share: one seed in two million fails
    assert abs((y != 0).mean() - (1 - p)) < 5 * (p * (1 - p) / n) ** 0.5
    # neighbours know nothing of each other
    pairs = ((y[1:] != 0) & (y[:-1] != 0)).mean()
    q = (1 - p) ** 2
    assert abs(pairs - q) < 5 * (3 * q * (1 - q) / n) ** 0.5


def test_everything_can_be_dropped() -> None:
    assert not drop(np.ones(1000, "float32"), [0, 0], 1.0, 0).any()


def test_streams_and_draws_are_independent() -> None:
    n = 20_000
    x = np.ones(n, "float32")
    one, other, later = (drop(x, [9, d], 0.5, s) != 0 for d, s in ((0, 0), (0, 1), (1, 0)))
    for mask in (other, later):
        assert abs((one == mask).mean() - 0.5) < 5 * 0.5 / n**0.5
