"""Where every tensor of an artifact lies, and in which order the kernels run."""

from collections.abc import Mapping
from dataclasses import dataclass

from pock_tvm.compilation.graphs import Graphs
from pock_tvm.relay_passes.plan_arena import ArenaPlan, plan_arena
from pock_tvm.relay_passes.reorder_for_memory import reorder_for_memory
from pock_tvm.relay_passes.step import Step, align


@dataclass(frozen=True)
class Plan:
    """Ordered steps, and the offset of every tensor."""

    steps: list[Step]
    arenas: Mapping[str, ArenaPlan]
    frozen: Mapping[str, int]
    state: Mapping[str, int]
    frozen_bytes: int
    trainable_bytes: int
    state_bytes: int

    @classmethod
    def make(cls, steps: list[Step], graphs: Graphs) -> "Plan":
        """Order each step's calls, then give every tensor its place.

        What callers see (inputs, outputs) has one place in all steps.
        """
        ordered = [reorder_for_memory(step) for step in steps]
        public: dict[str, int] = {}
        arenas = {}
        for step in ordered:
            plan = plan_arena(step, public)
            arenas[step.name] = plan
            public.update({n: plan.offsets[n] for n in (*step.inputs, *step.outputs)})
        learned = (*graphs.trainable, *graphs.statistics)
        in_state = set(learned)
        tensors = {n: t for step in ordered for n, t in step.tensors.items()}
        sizes = {n: v.nbytes for n, v in graphs.values.items()}
        frozen, frozen_bytes = _lay_out({n: s for n, s in sizes.items() if n not in in_state})
        state, trainable_bytes = _lay_out({n: sizes[n] for n in learned})
        slots, slot_bytes = _lay_out({n: tensors[n].bytes for n in graphs.slots})
        state.update({n: trainable_bytes + offset for n, offset in slots.items()})
        return cls(
            ordered,
            arenas,
            frozen,
            state,
            frozen_bytes,
            trainable_bytes,
            trainable_bytes + slot_bytes,
        )

    def clipping_bytes(self, graphs: Graphs) -> dict[str, int]:
        """Return the arena of a training step with and without clipping; empty without any."""
        if graphs.unclipped is None:
            return {}
        without = plan_arena(reorder_for_memory(graphs.unclipped.step)).arena_bytes
        clipped = self.arenas["train_step"].arena_bytes
        return {
            "arena_bytes": clipped,
            "arena_bytes_without": without,
            "extra_bytes": clipped - without,
        }

    def offsets_of(self, step: Step) -> dict[str, int]:
        """Return the offset of every tensor of a step in its region."""
        return {**self.frozen, **self.state, **self.arenas[step.name].offsets}


def _lay_out(sizes: Mapping[str, int]) -> tuple[dict[str, int], int]:
    offsets, end = {}, 0
    for name, size in sizes.items():
        offsets[name] = end
        end += align(size)
    return offsets, end
