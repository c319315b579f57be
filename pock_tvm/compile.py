"""From a trained model to an artifact that learns: the whole pipeline as one function."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tvm import tirx

from pock_tvm.artifact.description import ArtifactDescription, TensorSpec
from pock_tvm.artifact.load import Artifact
from pock_tvm.artifact.write import refuse_foreign_folder, write_artifact
from pock_tvm.clipping import Clipping, make_clipping
from pock_tvm.compilation.clipping_price import clipping_bytes
from pock_tvm.compilation.describe import describe
from pock_tvm.compilation.device_kernels import write_device_kernels
from pock_tvm.compilation.graphs import Graphs
from pock_tvm.compilation.inventory import parameters_of
from pock_tvm.compilation.kernel_sources import KERNELS_FILE, write_kernel_sources
from pock_tvm.compilation.kernels import compile_kernels
from pock_tvm.compilation.lora_factors import with_factors
from pock_tvm.compilation.micro_batches import plan_within
from pock_tvm.compilation.plan import Plan
from pock_tvm.compilation.stored_panels import store_panels
from pock_tvm.compilation.winograd import Winograd
from pock_tvm.errors import PockError, UnsupportedModelError
from pock_tvm.frontend import ImportedModel
from pock_tvm.losses import Loss, make_loss
from pock_tvm.optimizers import Optimizer, make_optimizer
from pock_tvm.relay_passes.build_object import kernels_called_in_place
from pock_tvm.relay_passes.decompose_batch_norm import Statistics
from pock_tvm.relay_passes.eliminate_dropout import count_dropouts
from pock_tvm.relay_passes.fuse_attention import Attention
from pock_tvm.relay_passes.quantize_frozen import Frozen
from pock_tvm.targets import TargetSpec, get_target
from pock_tvm.targets.precision import Precision, with_precision
from pock_tvm.update import UpdateScheme, head_names, learnable_names, parse_update, resolve

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total) as the compilation goes on."""


@dataclass(frozen=True, kw_only=True)
class CompiledModel:
    """An artifact on disk, and what its compilation found."""

    artifact: Artifact
    plan: Plan
    compile_s: float
    clipping_bytes: Mapping[str, int] = field(default_factory=dict)
    """Arena of a step with and without clipping, and what is between; empty without any."""
    dropouts: int = 0
    """Places where the model drops out, whether or not training does."""
    attention: tuple[int, int] = (0, 0)
    """Places of ``train_step`` where attention is computed in tiles, and where written out."""
    prefix_parts: Mapping[str, int] = field(default_factory=dict)
    """In how many parts an entry point computes what lies before the first tensor that learns."""
    quantized: int = 0
    """Frozen weights of which the steps read 8-bit integers."""
    transformed: int = 0
    """Frozen weights of which the steps read Winograd's transforms."""
    micro_batches: int = 1
    """In how many parts a training step takes its batch, to meet a budget."""

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
            "precision": description.precision,
            "batch": description.batch,
            "update": description.update.get("name"),
            "optimizer": dict(description.optimizer),
            "clipping": dict(self.clipping_bytes) or None,
            "accumulate": description.accumulate,
            "accumulators_bytes": sum(
                t.nbytes for t in description.tensors if t.role == "accumulator"
            ),
            "dropout": description.dropout,
            "dropouts": self.dropouts,
            "attention": dict(zip(("tiled", "written_out"), self.attention, strict=True)),
            "arena_bytes": resident + regions.arena_bytes,
            "arena_lower_bound_bytes": resident + regions.arena_lower_bound_bytes,
            "transient_bytes": regions.arena_bytes,
            "transient_lower_bound_bytes": regions.arena_lower_bound_bytes,
            "recomputed_share": round(self.plan.more_time(self.plan.price), 4),
            "quantized_weights": self.quantized,
            "winograd_weights": self.transformed,
            "prefix_parts": dict(self.prefix_parts),
            "micro_batches": self.micro_batches,
            "memory_frontier": [
                {
                    "arena_bytes": p.total_bytes,
                    "recomputed_share": round(self.plan.more_time(p), 4),
                    "micro_batches": p.micro_batches,
                }
                for p in self.plan.prices
            ],
            "workspace_bytes_per_thread": regions.workspace_bytes_per_thread,
            "weights_bytes": weights_bytes,
            "optimizer_bytes": optimizer_bytes,
            "trainable_parameters": sum(_learning_values(t, description) for t in trainable),
            "kernel_calls": next(
                e.kernel_calls for e in description.entries if e.name == "train_step"
            ),
            "object_bytes": (self.artifact.directory / "step.o").stat().st_size,
            "compile_s": round(self.compile_s, 3),
        }


def _learning_values(tensor: TensorSpec, description: ArtifactDescription) -> int:
    """Count the values of a tensor that learn: of some, a share of the channels."""
    done = description.update.get("tensors", {}).get(tensor.name, {})
    count = int(np.prod(tensor.shape))
    return count // done["of"] * len(done["channels"]) if "channels" in done else count


def compile(
    model: ImportedModel,
    output: str | Path,
    *,
    target: str | TargetSpec = "host",
    precision: Precision = "fp32",
    update: str | UpdateScheme = "full",
    loss: str | Loss = "cross_entropy",
    optimizer: str | Optimizer = "sgd",
    clip: str | Clipping | None = None,
    batch_norm: Statistics = "frozen",
    dropout: bool = False,
    memory_budget: int | None = None,
    accumulate: int = 1,
    attention: Attention = "full",
    frozen: Frozen = "float32",
    winograd: Winograd = "auto",
    explore_memory: bool = False,
    keep_gradients: bool = False,
    executable: bool | None = None,
    library: bool | None = None,
    cache: bool = True,
    progress: Progress | None = None,
) -> CompiledModel:
    """Compile ``model`` to a training artifact in the folder ``output``.

    Args:
        model: imported by ``pock_tvm.frontend``; its batch is the artifact's.
        output: folder to write; an artifact that is there already is replaced.
        target: machine that will train, by name or as data.
        precision: what matrix products round their operands to, ``fp32`` or ``bf16``; everything
            in memory and every sum is float32.
        update: what learns: ``full``, ``bias``, ``head``, ``last:N``, patterns, a scheme.
        loss: name, ``name:option=value,…``, or description.
        optimizer: the same.
        clip: bound of the gradients, ``value:1.0``, ``tensor-norm:1.0``, ``global-norm:1.0``; the
            last keeps all gradients until the last one is there.
        batch_norm: ``frozen`` keeps the running statistics; ``train`` normalizes with the batch's
            and updates them, as PyTorch does in train mode.
        dropout: let training steps drop out where the model does. Without it a step is
            deterministic; prediction and evaluation never drop anything.
        memory_budget: bytes of weights, optimizer state and transients together; where the step
            needs more, tensors are computed again instead of kept, the cheapest first; where that
            is not enough, the step takes its batch in parts and adds up their gradients.
        accumulate: micro-batches in an optimizer step: the step is that of a batch ``accumulate``
            times as large, its memory that of one batch and a copy of the gradients.
        attention: ``flash`` keeps no matrix of queries times keys: the scores are computed for
            some queries at a time, and again in the backward pass. Attention that is not of that
            form (dropout within, a bias that learns) stays written out, as with ``full``.
        frozen: ``int8`` computes products with frozen weights in 8-bit integers, one scale for each
            output channel, as far as nothing before them learns; what learns stays float32.
        winograd: ``auto`` convolves with a frozen 3x3 weight by Winograd's tiles where that is
            faster by estimate; the transformed weight, which is larger, takes the place of the
            weight, so that with a ``memory_budget`` there is none. ``off``: nowhere.
        explore_memory: find out what fewer bytes cost in time also with the batch in parts, which
            plans the step once more for each number of parts.
        keep_gradients: for debugging, write every gradient to the arena as ``gradient.<name>``.
        executable: link the standalone program too; by default only for other machines.
        library: link the shared library too; by default for this machine, phones and Macs.
        cache: take kernels that were compiled before from the user's cache, and leave new ones
            there; see ``compilation/kernel_cache.py``.
        progress: called as stages go by.

    Raises:
        PrecisionError: the target has no instructions for the precision.
        UnknownNameError: the target, loss, optimizer, a pattern or a selector names nothing.
        UnsupportedModelError: operators without a derivative, all of them listed.
        MemoryBudgetError: the budget cannot be met.
        BuildError: zig could not link.
        ArtifactError: ``output`` exists and is not an artifact.
    """
    started = time.perf_counter()
    refuse_foreign_folder(Path(output).absolute())  # before minutes of work, not after
    spec = get_target(target) if isinstance(target, str) else target
    spec = with_precision(spec, precision)
    if not spec.has_system and (executable or library):
        raise PockError(
            f"{spec.name} runs no operating system, and takes neither an executable nor a shared "
            "library; leave both out, and link step.o with runtime/ into a program of your own"
        )
    if frozen == "int8" and spec.device is not None:
        raise PockError(f"{spec.name} runs kernels on a GPU, which has none for int8; leave it out")
    loss = make_loss(loss) if isinstance(loss, str) else loss
    optimizer = make_optimizer(optimizer) if isinstance(optimizer, str) else optimizer
    clipping = make_clipping(clip) if isinstance(clip, str) else clip
    if accumulate < 1:
        raise PockError(f"accumulate is {accumulate}; a step takes at least 1 batch")
    dropouts = dropouts_of(model, wanted=dropout)
    parameters = parameters_of(model)
    if isinstance(update, str):
        names = learnable_names(parameters)
        scheme = parse_update(update, names, head_names(parameters))
    else:
        scheme = update
    chosen = resolve(scheme, parameters, model.parameters)
    if chosen.lazy_rows and accumulate > 1:
        raise PockError(
            f"lazy-rows on {chosen.lazy_rows[0]} cannot be accumulated: each batch reads other "
            "rows; leave `embeddings` out of the update scheme, or accumulate out"
        )
    model = with_factors(model, chosen)
    tell = progress or (lambda stage, done, total: None)

    whole_batch = {
        "batch statistics": batch_norm == "train",
        "dropout": dropout,
        "accumulation": accumulate > 1,
        "lazily updated rows": bool(chosen.lazy_rows),
    }
    present = [what for what, asked_for in whole_batch.items() if asked_for]
    obstacle = f"it takes a whole batch with {', '.join(present)}" if present else ""

    tiled = winograd == "auto" and memory_budget is None and spec.device is None

    def build(micro_batches: int) -> Graphs:
        tell("derive", 0, 1)
        graphs = Graphs.build(
            model,
            loss,
            optimizer,
            chosen,
            batch_norm,
            clipping=clipping,
            keep_gradients=keep_gradients,
            dropout=dropout,
            accumulate=accumulate,
            micro_batches=micro_batches,
            attention=attention,
            frozen=frozen,
            winograd=spec if tiled else None,
            fuses_gradients=spec.device is None,
        )
        tell("plan", 0, 1)
        return graphs

    graphs, kernels, plan = plan_within(
        build, spec, model.batch, memory_budget, obstacle, explore=explore_memory
    )
    if frozen == "int8" and not graphs.quantized:
        raise UnsupportedModelError(
            "no product with a frozen weight lies before what learns; let less learn (last:N, "
            "head, preset), or leave int8 out"
        )
    graphs, kernels, plan = store_panels(graphs, kernels, plan, spec)
    offsets = {step.name: plan.offsets_of(step) for step in plan.steps}
    if spec.device is None:
        built = compile_kernels(plan.steps, offsets, kernels, spec, tell, cache=cache)
    else:
        built = write_device_kernels(plan.steps, offsets, plan.arena_bytes, kernels, spec, tell)
    asked = {**scheme.describe(), "tensors": chosen.describe()}
    description = describe(
        model,
        graphs,
        plan,
        built,
        spec,
        asked,
        loss,
        optimizer,
        clipping,
        dropout=dropout,
        accumulate=accumulate,
    )
    tell("link", 0, 1)
    system = str(spec.tvm_options.get("mtriple"))
    to_run = spec.has_system and not spec.is_at_hand
    in_applications = "-android" in system or "-macos" in system
    artifact = write_artifact(
        output,
        description,
        built.objects,
        graphs.values,
        spec,
        executable=to_run if executable is None else executable,
        library=spec.is_at_hand or in_applications if library is None else library,
        sources=built.sources,
        unused={**model.unused, **graphs.quantized, **graphs.originals},
        extra=kernel_sources(plan, offsets, kernels) if spec.device is None else None,
    )
    tell("link", 1, 1)
    return CompiledModel(
        artifact=artifact,
        plan=plan,
        compile_s=time.perf_counter() - started,
        clipping_bytes=clipping_bytes(graphs, spec),
        prefix_parts=graphs.parts,
        micro_batches=graphs.micro_batches,
        quantized=len(graphs.quantized),
        transformed=len(graphs.originals),
        dropouts=dropouts,
        attention=graphs.attention,
    )


def kernel_sources(
    plan: Plan,
    offsets: Mapping[str, Mapping[str, int]],
    kernels: Mapping[str, tirx.PrimFunc],
) -> dict[str, bytes]:
    """Return the file that a tuner works on: the kernels of a training step."""
    steps = [step for step in plan.steps if step.name == "train_step"]
    called = {call.kernel for step in steps for call in step.calls}
    in_place = kernels_called_in_place(steps, offsets)
    wanted = {name: func for name, func in kernels.items() if name in called}
    return {KERNELS_FILE: write_kernel_sources(wanted, in_place)}


def dropouts_of(model: ImportedModel, *, wanted: bool) -> int:
    """Count the places where a model drops out.

    Raises:
        UnsupportedModelError: dropout is wanted, and there is none.
    """
    count = count_dropouts(model.mod)
    if wanted and not count:
        raise UnsupportedModelError(f"{model.name} has no dropout to turn on; leave it off")
    return count
