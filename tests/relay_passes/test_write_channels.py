"""WriteChannels: a slice learns inside its weight, whose other channels keep their bits."""

import numpy as np
import pytest
import torch
import tvm
from pass_checks import main_of, operators, run
from tvm import relax

from pock_tvm.optimizers import SGD, AdamW
from pock_tvm.relay_passes.append_optimizer import AppendOptimizer
from pock_tvm.relay_passes.slice_channels import SliceChannels, StoredSlice, slice_name
from pock_tvm.relay_passes.write_channels import WriteChannels

CHANNELS, RATE = (0, 3), 0.1
OPTIMIZERS = {
    "sgd": (SGD(), lambda p: torch.optim.SGD(p, RATE)),
    "momentum": (SGD(momentum=0.9), lambda p: torch.optim.SGD(p, RATE, 0.9)),
    "adamw": (AdamW(), lambda p: torch.optim.AdamW(p, RATE)),
}


def step(optimizer, axis=1):
    """A step on ``w``, whose gradient is w², in two channels along an axis, and on all of ``b``."""

    def build(bb, b, w):
        gb, gw = bb.emit(b * b), bb.emit(w * w)
        return bb.emit(relax.op.sum(gb)), gb, gw

    slices = {"w": StoredSlice(axis, CHANNELS)}
    mod = SliceChannels(slices, ["b", "w"])(main_of(build, {"b": (4,), "w": (3, 5, 4)}))
    return AppendOptimizer(optimizer, ["b", slice_name("w")])(mod), slices


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_three_steps_follow_pytorch_on_the_slice(name, axis):
    optimizer, make_reference = OPTIMIZERS[name]
    before, slices = step(optimizer, axis)
    untouched = before.clone()
    after = WriteChannels(slices)(before)
    tvm.ir.assert_structural_equal(before, untouched)
    relax.analysis.well_formed(after)  # raises
    names = [p.name for p in after["main"].params]
    updates = [str(n) for n in after["main"].attrs["updates"]]
    assert "w" in updates
    assert not {slice_name("w")} & {*names, *updates}
    slots = [n for n in names if n.endswith(slice_name("w"))]
    assert len(slots) == len(optimizer.slots_of((1,)))

    rng = np.random.default_rng(0)
    state = {p.name: np.zeros([int(d) for d in p.ty.shape]) for p in after["main"].params}
    assert all(state[n].shape[axis] == len(CHANNELS) for n in slots)
    state["learning_rate"] = np.asarray(RATE)
    state.update({n: rng.uniform(0.5, 1.0, state[n].shape) for n in ("b", "w")})
    first = state["w"].copy()
    part = torch.nn.Parameter(torch.tensor(np.take(first, CHANNELS, axis)))
    reference = make_reference([part])
    for _ in range(3):
        part.grad = part.detach() ** 2
        reference.step()
        _, *new = run(after, *(state[n].copy() for n in names))
        state.update(zip(updates, new, strict=True))
        got = np.take(state["w"], CHANNELS, axis)
        np.testing.assert_allclose(got, part.detach().numpy(), rtol=1e-9)
    others = [c for c in range(first.shape[axis]) if c not in CHANNELS]
    np.testing.assert_array_equal(np.take(state["w"], others, axis), np.take(first, others, axis))


def test_the_write_stands_right_behind_the_step():
    before, slices = step(SGD())
    names = operators(WriteChannels(slices)(before))
    at = names.index("pock.write_slice")
    assert names[at - 1] == "subtract"
    assert "pock.write_slice" not in names[at + 1 :]


def test_without_slices_nothing_changes():
    before, _ = step(SGD())
    tvm.ir.assert_structural_equal(WriteChannels({})(before), before)
