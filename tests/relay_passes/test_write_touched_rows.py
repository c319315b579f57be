"""WriteTouchedRows: the lazy form of an optimizer, row by row."""

import numpy as np
import pytest
import tvm
from pass_checks import run
from test_slice_touched_rows import COLUMNS, INDICES, ROWS, derived
from tvm import relax

from pock_tvm.errors import UnsupportedModelError
from pock_tvm.optimizers import SGD, Adafactor, AdamW
from pock_tvm.relay_passes.append_optimizer import AppendOptimizer
from pock_tvm.relay_passes.slice_touched_rows import SliceTouchedRows, rows_name
from pock_tvm.relay_passes.write_touched_rows import WriteTouchedRows

RATE = 0.1


def before_writing(optimizer):
    mod = SliceTouchedRows(["w"], ["w"])(derived())
    return AppendOptimizer(optimizer, [rows_name("w")])(mod)


def lazy_momentum(w, m, gradient, touched, step, options):
    m[touched] = options.momentum * m[touched] + gradient[touched]
    w[touched] -= RATE * m[touched]


def lazy_adamw(w, slots, gradient, touched, step, options):
    m, v = slots
    g = gradient[touched]
    m[touched] = options.beta1 * m[touched] + (1 - options.beta1) * g
    v[touched] = options.beta2 * v[touched] + (1 - options.beta2) * g * g
    root = np.sqrt(v[touched] / (1 - options.beta2**step)) + options.eps
    decayed = w[touched] * (1 - RATE * options.weight_decay)
    w[touched] = decayed - RATE * m[touched] / (1 - options.beta1**step) / root


@pytest.mark.parametrize("optimizer", [SGD(), SGD(momentum=0.9), AdamW(weight_decay=0.1)])
def test_three_steps_move_the_rows_that_were_read(optimizer):
    before = before_writing(optimizer)
    untouched = before.clone()
    after = WriteTouchedRows(["w"])(before)
    tvm.ir.assert_structural_equal(before, untouched)
    relax.analysis.well_formed(after)  # raises
    names = [p.name for p in after["main"].params]
    updates = [str(n) for n in after["main"].attrs["updates"]]
    assert not [n for n in (*names, *updates) if "[rows]" in n]
    slots = [f"optimizer.{s}.w" for s in optimizer.slots_of((ROWS, COLUMNS))]
    assert set(slots) <= set(names)

    state = {p.name: np.zeros([int(d) for d in p.ty.shape]) for p in after["main"].params}
    state["learning_rate"] = np.asarray(RATE)
    state["w"] = np.random.default_rng(0).standard_normal((ROWS, COLUMNS))
    first, w = state["w"].copy(), state["w"].copy()
    kept = [np.zeros_like(w) for _ in slots]
    for step, indices in enumerate((INDICES, INDICES % 2, INDICES), 1):
        state["i"] = indices
        gradient = np.zeros_like(w)
        np.add.at(gradient, indices.reshape(-1), 2 * w[indices.reshape(-1)])
        touched = np.unique(indices)
        if isinstance(optimizer, AdamW):
            lazy_adamw(w, kept, gradient, touched, step, optimizer)
        elif kept:
            lazy_momentum(w, kept[0], gradient, touched, step, optimizer)
        else:
            w[touched] -= RATE * gradient[touched]
        _, *new = run(after, *(state[n].copy() for n in names))
        state.update(zip(updates, new, strict=True))
        np.testing.assert_allclose(state["w"], w, rtol=1e-9)
        for slot, wanted in zip(slots, kept, strict=True):
            np.testing.assert_allclose(state[slot], wanted, rtol=1e-9, atol=1e-15)
    never = [r for r in range(ROWS) if r not in (0, 1, 4)]
    np.testing.assert_array_equal(state["w"][never], first[never])


def test_state_without_rows_is_refused():
    with pytest.raises(UnsupportedModelError, match="lazy-rows on w: the optimizer keeps"):
        WriteTouchedRows(["w"])(before_writing(Adafactor()))


def test_without_tables_nothing_changes():
    before = before_writing(SGD())
    tvm.ir.assert_structural_equal(WriteTouchedRows([])(before), before)
