"""Whatever the planner does, a step gives the numbers of the plan that shares no memory.

A step is run on bytes: a kernel mixes its operands by arithmetic modulo 256. Where its result may
be written over an operand it reads that operand element by element, as such kernels do.
"""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from test_planning import step_of

from pock_tvm.relay_passes.plan_arena import plan_arena
from pock_tvm.relay_passes.rematerialize import tradeoffs
from pock_tvm.relay_passes.reorder_for_memory import reorder_for_memory
from pock_tvm.relay_passes.step import KernelCall, Step, align, blocks, live_intervals

SIZES = (4, 64, 260, 1024, 4096)


@st.composite
def steps(draw) -> Step:
    """Return a step over an input and two weights, which some of its calls overwrite."""
    sizes = {"x": draw(st.sampled_from(SIZES)), "w0": 256, "w1": 64}
    made, calls = ["x"], []
    for i in range(draw(st.integers(2, 24))):
        reads = draw(st.lists(st.sampled_from([*made, "w0", "w1"]), min_size=1, max_size=3))
        reads = tuple(dict.fromkeys(reads))
        if draw(st.integers(0, 5)) == 0:
            weight = draw(st.sampled_from(["w0", "w1"]))
            others = tuple(n for n in reads if n != weight)
            calls.append(KernelCall(f"k{i}", (*others, weight), (weight,)))
            continue
        own = [n for n in reads if n not in ("w0", "w1")]
        same = draw(st.sampled_from([*own, ""])) if own else ""
        name = f"t{i}"
        sizes[name] = sizes[same] if same else draw(st.sampled_from(SIZES))
        calls.append(KernelCall(f"k{i}", reads, (name,), may_overwrite=(same,) if same else ()))
        made.append(name)
    return step_of(calls, sizes, outputs=(made[-1],), state=("w0", "w1"))


def run(step: Step, offsets) -> dict[str, bytes]:
    """Run a step with its arena tensors at ``offsets``; return outputs and weights."""
    extent = max((o + step.tensors[n].bytes for n, o in offsets.items()), default=0)
    memory = np.zeros(extent, "uint8")

    def view(name):
        if name not in offsets:
            return state[name]
        return memory[offsets[name] : offsets[name] + step.tensors[name].bytes]

    state = {n: np.arange(step.tensors[n].bytes, dtype="uint8") for n in ("w0", "w1")}
    for name in step.inputs:
        view(name)[:] = np.arange(step.tensors[name].bytes) * 7
    for call in step.calls:
        operands = {name: view(name).copy() for name in call.reads}
        (out,) = (view(name) for name in call.writes)
        total = np.full(out.size, int(call.kernel[1:]) + 1, "uint8")
        for name, value in operands.items():
            if name in call.may_overwrite or name in call.writes:
                total += 3 * value
            else:
                total += np.uint8(np.dot(value.astype("int64"), 1 + np.arange(value.size)) % 251)
        out[:] = total
    return {n: view(n).tobytes() for n in (*step.outputs, "w0", "w1")}


def naive_offsets(step: Step) -> dict[str, int]:
    offsets, end = {}, 0
    for name in live_intervals(step):
        offsets[name] = end
        end += align(step.tensors[name].bytes)
    return offsets


@settings(max_examples=150, deadline=None, derandomize=True)
@given(steps())
def test_every_plan_gives_the_numbers_of_the_naive_one(step) -> None:
    expected = run(step, naive_offsets(step))
    costs = {call.kernel: 1.0 for call in step.calls}
    for choice in tradeoffs(reorder_for_memory(step), costs):
        plan = plan_arena(choice.step)
        assert plan.lower_bound_bytes == choice.peak_bytes <= plan.arena_bytes
        assert run(choice.step, plan.offsets) == expected


@settings(max_examples=100, deadline=None, derandomize=True)
@given(steps())
def test_no_two_blocks_that_live_together_overlap(step) -> None:
    step = tradeoffs(reorder_for_memory(step), {c.kernel: 1.0 for c in step.calls})[-1].step
    offsets = plan_arena(step).offsets
    placed = [(block, offsets[block.tensors[0]]) for block in blocks(step)]
    for i, (a, at) in enumerate(placed):
        for b, bt in placed[:i]:
            if a.meets(b):
                assert at + a.size <= bt or bt + b.size <= at, (a, b)
