"""From a trained model to an artifact that learns: the whole pipeline as one function."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tvm

from pock_tvm.artifact.description import (
    ArtifactDescription,
    EntryPoint,
    Regions,
    Role,
    TensorSpec,
)
from pock_tvm.artifact.load import Artifact
from pock_tvm.artifact.write import refuse_foreign_folder, write_artifact
from pock_tvm.frontend import ImportedModel
from pock_tvm.losses import CrossEntropy, Loss, describe_loss, make_loss
from pock_tvm.optimizers import Optimizer, describe_optimizer, make_optimizer
from pock_tvm.relay_passes import pipeline
from pock_tvm.relay_passes.append_optimizer import LEARNING_RATE
from pock_tvm.relay_passes.build_object import BuiltObject, build_object
from pock_tvm.relay_passes.decompose_batch_norm import Statistics
from pock_tvm.relay_passes.emit_entry_point import entry_symbol
from pock_tvm.relay_passes.extract_step import ExtractedStep, extract_step
from pock_tvm.relay_passes.index_limits import index_limits
from pock_tvm.relay_passes.plan_arena import ArenaPlan, plan_arena
from pock_tvm.relay_passes.reorder_for_memory import reorder_for_memory
from pock_tvm.relay_passes.share_kernels import share_kernels
from pock_tvm.relay_passes.step import Region, Step, align, live_intervals
from pock_tvm.schedules import schedule_kernel
from pock_tvm.targets import TargetSpec, get_target
from pock_tvm.update import UpdateScheme, parse_update

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total) as the compilation goes on."""


@dataclass(frozen=True, kw_only=True)
class CompiledModel:
    """An artifact on disk, and what its compilation found."""

    artifact: Artifact
    compile_s: float

    def report(self) -> dict[str, Any]:
        """Return the byte counts and sizes that ``pock compile --json`` prints."""
        description = self.artifact.description
        regions = description.regions
        weights = [t for t in description.tensors if t.role in ("weight", "statistic")]
        slots = [t for t in description.tensors if t.role == "optimizer"]
        weights_bytes = sum(t.nbytes for t in weights)
        optimizer_bytes = sum(t.nbytes for t in slots)
        resident = regions.frozen_bytes + regions.state_bytes
        trainable = [t for t in weights if t.trainable]
        return {
            "model": description.model,
            "target": description.target,
            "batch": description.batch,
            "update": description.update.get("name"),
            "arena_bytes": resident + regions.arena_bytes,
            "arena_lower_bound_bytes": resident + regions.arena_lower_bound_bytes,
            "transient_bytes": regions.arena_bytes,
            "transient_lower_bound_bytes": regions.arena_lower_bound_bytes,
            "workspace_bytes_per_thread": regions.workspace_bytes_per_thread,
            "weights_bytes": weights_bytes,
            "optimizer_bytes": optimizer_bytes,
            "trainable_parameters": sum(int(np.prod(t.shape)) for t in trainable),
            "kernel_calls": next(
                e.kernel_calls for e in description.entries if e.name == "train_step"
            ),
            "object_bytes": (self.artifact.directory / "step.o").stat().st_size,
            "compile_s": round(self.compile_s, 3),
        }


def compile(
    model: ImportedModel,
    output: str | Path,
    *,
    target: str | TargetSpec = "host",
    update: str | UpdateScheme = "full",
    loss: str | Loss = "cross_entropy",
    optimizer: str | Optimizer = "sgd",
    batch_norm: Statistics = "frozen",
    keep_gradients: bool = False,
    executable: bool | None = None,
    progress: Progress | None = None,
) -> CompiledModel:
    """Compile ``model`` to a training artifact in the folder ``output``.

    Args:
        model: imported by ``pock_tvm.frontend``; its batch is the artifact's.
        output: folder to write; an artifact that is there already is replaced.
        target: machine that will train, by name or as data.
        update: what learns: ``full``, ``bias``, ``head``, ``last:N``, patterns, a scheme.
        loss: name or description.
        optimizer: name or description.
        batch_norm: ``frozen`` keeps the running statistics; ``batch`` normalizes with the batch's
            and updates them, as PyTorch does in train mode.
        keep_gradients: also write every gradient to the arena as ``gradient.<name>``, for debugging.
        executable: link the standalone program too; by default only for other machines.
        progress: called as stages go by.

    Raises:
        UnknownNameError: the target, loss, optimizer or a parameter pattern names nothing.
        UnsupportedModelError: operators without a derivative, all of them listed.
        BuildError: zig could not link.
        ArtifactError: ``output`` exists and is not an artifact.
    """
    started = time.perf_counter()
    refuse_foreign_folder(Path(output).absolute())  # before minutes of work, not after
    spec = get_target(target) if isinstance(target, str) else target
    loss = make_loss(loss) if isinstance(loss, str) else loss
    optimizer = make_optimizer(optimizer) if isinstance(optimizer, str) else optimizer
    learnable = [name for name in model.parameters if name not in model.buffers]
    scheme = parse_update(update, learnable) if isinstance(update, str) else update
    trainable = scheme.select(learnable)
    tell = progress or (lambda stage, done, total: None)

    tell("derive", 0, 1)
    graphs = _Graphs.build(model, loss, optimizer, trainable, batch_norm, keep_gradients)
    tell("plan", 0, 1)
    steps, kernels = share_kernels(graphs.steps)
    plan = _Plan.make(steps, graphs)
    tell("schedule", 0, len(kernels))
    scheduled = {}
    for name, kernel in kernels.items():
        scheduled[name] = schedule_kernel(kernel, spec)
        tell("schedule", len(scheduled), len(kernels))
    tell("build", 0, 1)
    offsets = {step.name: plan.offsets_of(step) for step in plan.steps}
    built = build_object(plan.steps, offsets, scheduled, spec)
    description = _describe(model, graphs, plan, built, spec, scheme, loss, optimizer)
    tell("link", 0, 1)
    is_host = spec.name == "host"
    artifact = write_artifact(
        output,
        description,
        built.object_bytes,
        graphs.values,
        spec,
        executable=not is_host if executable is None else executable,
        library=is_host,
    )
    tell("link", 1, 1)
    return CompiledModel(artifact=artifact, compile_s=time.perf_counter() - started)


@dataclass(frozen=True)
class _Graphs:
    """The three entry points, lowered, and the tensors that they share."""

    steps: list[ExtractedStep]
    trainable: tuple[str, ...]
    statistics: tuple[str, ...]
    slots: tuple[str, ...]
    axes: Mapping[str, tuple[int, ...]]
    limits: Mapping[str, int]
    values: dict[str, np.ndarray]

    @classmethod
    def build(
        cls,
        model: ImportedModel,
        loss: Loss,
        optimizer: Optimizer,
        trainable: Sequence[str],
        batch_norm: Statistics,
        keep_gradients: bool,
    ) -> "_Graphs":
        moving = sorted(model.buffers) if batch_norm == "batch" else []
        known = {n: model.parameters[n] for n in model.buffers if n not in moving}
        frozen_form = pipeline.canonicalize("frozen", known)(model.mod)
        train_form = (
            pipeline.canonicalize("batch", known)(model.mod) if moving else frozen_form
        )
        axes = {
            str(name): tuple(int(a) for a in value)
            for name, value in frozen_form["main"].attrs.get("stored_axes", {}).items()
        }
        joint = pipeline.train(loss, optimizer, trainable, keep_gradients=keep_gradients)(train_form)
        updates = [str(n) for n in joint["main"].attrs["updates"]]
        slots = tuple(n for n in updates if n.startswith("optimizer."))
        regions: dict[str, Region] = dict.fromkeys(model.parameters, "frozen")
        regions.update(dict.fromkeys((*trainable, *moving, *slots), "state"))
        gradients = tuple(f"gradient.{n}" for n in trainable) if keep_gradients else ()
        measures = ("loss", "correct") if isinstance(loss, CrossEntropy) else ("loss",)
        lower = pipeline.lower()
        steps = [
            extract_step(lower(joint), "train_step", regions, ("loss", *gradients)),
            extract_step(
                lower(pipeline.evaluate(loss)(frozen_form)), "evaluate", regions, measures
            ),
            extract_step(lower(frozen_form), "predict", regions, ("logits",)),
        ]
        steps, constants = _share_constants(steps)
        values = {
            name: np.ascontiguousarray(value.transpose(axes[name]) if name in axes else value)
            for name, value in model.parameters.items()
        }
        return cls(
            steps=steps,
            trainable=tuple(trainable),
            statistics=tuple(moving),
            slots=slots,
            axes=axes,
            limits=index_limits(frozen_form),
            values={**values, **constants},
        )


def _share_constants(
    steps: list[ExtractedStep],
) -> tuple[list[ExtractedStep], dict[str, np.ndarray]]:
    """Give equal constants of the entry points one name."""
    shared: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    values: dict[str, np.ndarray] = {}
    out = []
    for one in steps:
        names = {}
        for name, value in one.constants.items():
            key = (str(value.dtype), value.shape, value.tobytes())
            if key not in shared:
                shared[key] = f"constant.{len(shared)}"
                values[shared[key]] = value
            names[name] = shared[key]
        out.append(replace(one, step=one.step.renamed(names)))
    return out, values


@dataclass(frozen=True)
class _Plan:
    """Ordered steps, and the offset of every tensor."""

    steps: list[Step]
    arenas: Mapping[str, ArenaPlan]
    frozen: Mapping[str, int]
    state: Mapping[str, int]
    frozen_bytes: int
    trainable_bytes: int
    state_bytes: int

    @classmethod
    def make(cls, steps: list[Step], graphs: _Graphs) -> "_Plan":
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
            ordered, arenas, frozen, state, frozen_bytes, trainable_bytes, trainable_bytes + slot_bytes
        )

    def offsets_of(self, step: Step) -> dict[str, int]:
        return {**self.frozen, **self.state, **self.arenas[step.name].offsets}


def _lay_out(sizes: Mapping[str, int]) -> tuple[dict[str, int], int]:
    offsets, end = {}, 0
    for name, size in sizes.items():
        offsets[name] = end
        end += align(size)
    return offsets, end


def _describe(
    model: ImportedModel,
    graphs: _Graphs,
    plan: _Plan,
    built: BuiltObject,
    spec: TargetSpec,
    scheme: UpdateScheme,
    loss: Loss,
    optimizer: Optimizer,
) -> ArtifactDescription:
    arena_bytes = max(p.arena_bytes for p in plan.arenas.values())
    lower_bound = max(p.lower_bound_bytes for p in plan.arenas.values())
    entries = tuple(
        EntryPoint(
            name=step.name,
            symbol=entry_symbol(step.name),
            kernel_calls=len(step.calls),
            inputs=step.inputs,
            outputs=step.outputs,
        )
        for step in plan.steps
    )
    return ArtifactDescription(
        target=spec.name,
        tvm_options=dict(spec.tvm_options),
        model=model.name,
        loss=describe_loss(loss),
        optimizer=describe_optimizer(optimizer),
        update=scheme.describe(),
        batch=model.batch,
        regions=Regions(
            frozen_bytes=plan.frozen_bytes,
            state_bytes=plan.state_bytes,
            trainable_bytes=plan.trainable_bytes,
            arena_bytes=arena_bytes,
            workspace_bytes_per_thread=built.workspace_bytes_per_thread,
            arena_lower_bound_bytes=lower_bound,
        ),
        tensors=_tensor_specs(model, graphs, plan, loss),
        entries=entries,
        plan=_plan_document(plan),
    )


def _tensor_specs(
    model: ImportedModel, graphs: _Graphs, plan: _Plan, loss: Loss
) -> tuple[TensorSpec, ...]:
    specs = []
    for name, value in graphs.values.items():
        in_state = name in plan.state
        role: Role = "weight"
        if name.startswith("constant."):
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
                role="optimizer",
            )
        )
    classes = plan.steps[2].tensors["logits"].shape[-1]
    for name in dict.fromkeys(n for s in plan.steps for n in (*s.inputs, *s.outputs)):
        tensor = tensors[name]
        step = next(s for s in plan.steps if name in (*s.inputs, *s.outputs))
        is_label = name == "labels" and isinstance(loss, CrossEntropy)
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
                ignore=loss.ignore_index if is_label and isinstance(loss, CrossEntropy) else None,
            )
        )
    return tuple(specs)


def _role_of(name: str, step: Step) -> Role:
    if name in step.outputs:
        return "output"
    return {"labels": "label", LEARNING_RATE: "hyper"}.get(name, "input")  # type: ignore[return-value]


def _plan_document(plan: _Plan) -> dict[str, Any]:
    """Return every call, tensor, offset and life time, for plan.json."""
    document = {}
    for step in plan.steps:
        offsets, lives = plan.offsets_of(step), live_intervals(step)
        document[step.name] = {
            "calls": [
                {"kernel": c.kernel, "reads": list(c.reads), "writes": list(c.writes)}
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
