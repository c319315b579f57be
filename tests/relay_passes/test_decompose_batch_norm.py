"""DecomposeBatchNorm against PyTorch, with frozen and with batch statistics."""

import numpy as np
import pytest
import torch
from pass_checks import check_pass, main_of, operators, random_arguments, run
from tvm import relax
from tvm.relax.op import nn

from pock_tvm.relay_passes.decompose_batch_norm import DecomposeBatchNorm

SHAPES = {"x": (3, 4, 5, 5), "gamma": (4,), "beta": (4,), "mean": (4,), "var": (4,)}


def batch_norm(bb, x, gamma, beta, mean, var):
    call = nn.batch_norm(x, gamma, beta, mean, var, axis=1, epsilon=1e-3, momentum=0.1)
    return bb.emit(relax.TupleGetItem(bb.emit(call), 0))


def torch_batch_norm(arguments, training: bool):
    x, gamma, beta, mean, var = (torch.tensor(a) for a in arguments)
    y = torch.nn.functional.batch_norm(x, mean, var, gamma, beta, training, 0.1, 1e-3)
    return [t.numpy() for t in ((y, mean, var) if training else (y,))]


@pytest.mark.parametrize("statistics, training", [("frozen", False), ("train", True)])
def test_matches_torch(statistics, training) -> None:
    before = main_of(batch_norm, SHAPES)
    after = check_pass(DecomposeBatchNorm(statistics), before, same_values=False)
    assert "nn.batch_norm" not in operators(after)
    arguments = random_arguments(before)
    wanted = torch_batch_norm(arguments, training)
    for got, want in zip(run(after, *arguments), wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def test_names_the_statistics_it_updates() -> None:
    after = DecomposeBatchNorm("train")(main_of(batch_norm, SHAPES))
    assert list(after["main"].attrs["running_statistics"]) == ["mean", "var"]


def test_leaves_other_operators() -> None:
    before = main_of(lambda bb, x, **_: bb.emit(nn.relu(x)), SHAPES)
    check_pass(DecomposeBatchNorm(), before, before)
