"""GroupMicroBatches: a micro-batch is done before the next begins, with the same values."""

import numpy as np
from pass_checks import main_of, operators, random_arguments, run
from tvm import relax
from tvm.relax import op

from pock_tvm.relay_passes.group_micro_batches import GroupMicroBatches


def both_parts(bb, x, w):
    first, second = (bb.emit(op.strided_slice(x, [0], [i], [i + 2])) for i in (0, 2))
    forward = [bb.emit(op.matmul(part, w)) for part in (first, second)]
    back = [bb.emit(op.sum(bb.emit(op.exp(y)), [0])) for y in reversed(forward)]
    return bb.emit(op.add(*back))


def test_the_last_part_runs_to_its_end_first():
    mod = main_of(both_parts, {"x": (4, 8), "w": (8, 5)})
    before = mod.script()
    after = GroupMicroBatches(["x"], 2)(mod)
    assert mod.script() == before
    relax.analysis.well_formed(after)
    one = ["strided_slice", "matmul", "exp", "sum"]
    assert operators(after) == [*one, *one, "reshape", "add"]
    arguments = random_arguments(mod)
    for got, wanted in zip(run(after, *arguments), run(mod, *arguments), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_a_whole_batch_is_left_alone():
    mod = main_of(both_parts, {"x": (4, 8), "w": (8, 5)})
    assert GroupMicroBatches(["x"], 1)(mod).script() == mod.script()
