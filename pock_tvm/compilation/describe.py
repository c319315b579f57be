"""What the artifact will say about itself."""

from collections.abc import Mapping
from typing import Any, cast

from pock_tvm.artifact.description import (
    ACCUMULATION_COUNT,
    RANDOM_COUNTER,
    ArtifactDescription,
    EntryName,
    EntryPoint,
    Regions,
    Role,
    TensorSpec,
)
from pock_tvm.artifact.fingerprint import tensors_sha256
from pock_tvm.artifact.merge_lora import merge_lora
from pock_tvm.clipping import Clipping, describe_clipping
from pock_tvm.compilation.graphs import Graphs
from pock_tvm.compilation.plan import Plan
from pock_tvm.frontend import ImportedModel
from pock_tvm.losses import Loss, describe_loss
from pock_tvm.optimizers import Optimizer, describe_optimizer
from pock_tvm.relay_passes.accumulate_gradients import ACCUMULATED_LOSS
from pock_tvm.relay_passes.append_optimizer import LEARNING_RATE
from pock_tvm.relay_passes.append_teacher import is_teacher_name
from pock_tvm.relay_passes.build_object import BuiltObjects
from pock_tvm.relay_passes.emit_entry_point import entry_symbol
from pock_tvm.relay_passes.step import Step, live_intervals
from pock_tvm.targets import TargetSpec


def describe(
    model: ImportedModel,
    graphs: Graphs,
    plan: Plan,
    built: BuiltObjects,
    spec: TargetSpec,
    update: Mapping[str, Any],
    loss: Loss,
    optimizer: Optimizer,
    clipping: Clipping | None = None,
    *,
    dropout: bool = False,
    accumulate: int = 1,
) -> ArtifactDescription:
    """Put together what the manifest, the generated C tables and the trainer need to know."""
    lower_bound = max(p.lower_bound_bytes for p in plan.arenas.values())
    entries = tuple(
        EntryPoint(
            name=cast(EntryName, step.name),
            symbol=entry_symbol(step.name),
            kernel_calls=len(step.calls),
            inputs=step.inputs,
            outputs=step.outputs,
        )
        for step in plan.steps
    )
    return ArtifactDescription(
        target=spec.name,
        precision=spec.precision,
        tvm_options=dict(spec.tvm_options),
        model=model.name,
        model_sha256=tensors_sha256(merge_lora(update, model.parameters)),
        aliases=dict(model.aliases),
        loss=describe_loss(loss),
        optimizer={
            **describe_optimizer(optimizer),
            **({"clip": describe_clipping(clipping)} if clipping else {}),
        },
        update=update,
        batch=model.batch,
        regions=Regions(
            frozen_bytes=plan.frozen_bytes,
            state_bytes=plan.state_bytes,
            trainable_bytes=plan.trainable_bytes,
            arena_bytes=plan.arena_bytes + built.workspace_bytes,
            workspace_bytes_per_thread=built.workspace_bytes_per_thread,
            arena_lower_bound_bytes=lower_bound,
        ),
        tensors=_tensor_specs(model, graphs, plan, loss),
        entries=entries,
        plan=_plan_document(plan),
        dropout=dropout,
        accumulate=accumulate,
    )


def _tensor_specs(
    model: ImportedModel, graphs: Graphs, plan: Plan, loss: Loss
) -> tuple[TensorSpec, ...]:
    specs = []
    for name, value in graphs.values.items():
        in_state = name in plan.state
        role: Role = "weight"
        if name.startswith("constant.") or is_teacher_name(name):
            role = "constant"
        elif name in model.buffers:
            role = "statistic"
        specs.append(
            TensorSpec(
                name=name,
                dtype=str(value.dtype),
                shape=value.shape,
                region="state" if in_state else "frozen",
                offset=plan.state[name] if in_state else plan.frozen[name],
                role=role,
                trainable=name in graphs.trainable,
                axes=graphs.axes.get(name),
                panel=graphs.panels.get(name),
            )
        )
    tensors = {n: t for step in reversed(plan.steps) for n, t in step.tensors.items()}
    for name in graphs.slots:
        tensor = tensors[name]
        specs.append(
            TensorSpec(
                name=name,
                dtype=tensor.dtype,
                shape=tensor.shape,
                region="state",
                offset=plan.state[name],
                role=_role_in_state(name),
            )
        )
    classes = plan.steps[2].tensors["logits"].shape[-1]
    for name in dict.fromkeys(n for s in plan.steps for n in (*s.inputs, *s.outputs)):
        tensor = tensors[name]
        step = next(s for s in plan.steps if name in (*s.inputs, *s.outputs))
        is_label = name == "labels" and loss.labels == "classes"
        specs.append(
            TensorSpec(
                name=name,
                dtype=tensor.dtype,
                shape=tensor.shape,
                region="arena",
                offset=plan.arenas[step.name].offsets[name],
                role=_role_of(name, step),
                axes=graphs.axes.get(name),
                limit=classes if is_label else graphs.limits.get(name),
                ignore=getattr(loss, "ignore_index", None) if is_label else None,
            )
        )
    return tuple(specs)


def _role_in_state(name: str) -> Role:
    """Return the role of a tensor that only training has."""
    if name in (RANDOM_COUNTER, ACCUMULATION_COUNT):
        return "counter"
    accumulates = name == ACCUMULATED_LOSS or name.startswith("accumulator.")
    return "accumulator" if accumulates else "optimizer"


def _role_of(name: str, step: Step) -> Role:
    if name in step.outputs:
        return "output"
    return {"labels": "label", LEARNING_RATE: "hyper"}.get(name, "input")  # type: ignore[return-value]


def _plan_document(plan: Plan) -> dict[str, Any]:
    """Return every call, tensor, offset and life time, for plan.json."""
    document = {}
    for step in plan.steps:
        offsets, lives = plan.offsets_of(step), live_intervals(step)
        document[step.name] = {
            "calls": [
                {
                    "kernel": c.kernel,
                    "reads": list(c.reads),
                    "writes": list(c.writes),
                    "overwrites": c.overwrites,
                    "shifts": list(c.shifts),
                    "flops": plan.flops[c.kernel],
                }
                for c in step.calls
            ],
            "tensors": [
                {
                    "name": name,
                    "dtype": t.dtype,
                    "shape": list(t.shape),
                    "bytes": t.bytes,
                    "region": t.region,
                    "offset": offsets[name],
                    "live": list(lives.get(name, (0, len(step.calls) - 1))),
                }
                for name, t in step.tensors.items()
                if name in offsets
            ],
        }
    return document
