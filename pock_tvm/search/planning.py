"""What a scheme costs, from the planner itself: bytes, and the kernels that a step calls."""

import functools
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pock_tvm.compilation.costs import estimate_cycles
from pock_tvm.compilation.graphs import Graphs, InCommon
from pock_tvm.compilation.inventory import parameters_of
from pock_tvm.compilation.lora_factors import with_factors
from pock_tvm.compilation.prefix import plan_in_parts
from pock_tvm.compilation.stored_panels import store_panels
from pock_tvm.frontend.model import ImportedModel
from pock_tvm.losses import make_loss
from pock_tvm.optimizers import make_optimizer
from pock_tvm.relay_passes.fuse_attention import Attention
from pock_tvm.search.stored_model import load_model
from pock_tvm.targets import get_target
from pock_tvm.update import UpdateScheme, resolve
from pock_tvm.update.toml_format import scheme_of


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all schemes of a search have in common."""

    model: str
    """Folder of the model, see ``stored_model.py``."""
    target: str = "host"
    optimizer: str = "adamw"
    loss: str = "cross_entropy"
    attention: Attention = "full"

    def plan_task(self, scheme: UpdateScheme) -> dict[str, Any]:
        """Return, as plain data, that a scheme is to be planned."""
        return {"task": "plan", "scheme": scheme.describe(), **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class PlannedCost:
    """What the artifact of a scheme needs."""

    resident_bytes: int
    """Weights, constants and optimizer state."""
    transient_bytes: int
    calls: Mapping[str, int]
    """How often a step calls each kernel."""
    cycles: Mapping[str, float]
    """By estimate, of one call of each kernel."""

    @property
    def total_bytes(self) -> int:
        """What a memory budget counts."""
        return self.resident_bytes + self.transient_bytes


def plan_scheme(
    model: ImportedModel,
    scheme: UpdateScheme,
    *,
    target: str,
    optimizer: str,
    loss: str,
    attention: Attention = "full",
    common: InCommon | None = None,
) -> PlannedCost:
    """Plan a scheme as ``compile`` does, without compiling a kernel.

    Args:
        model: as imported.
        scheme: what learns.
        target: by name.
        optimizer: by name.
        loss: by name.
        attention: written out or in tiles, as for ``compile``.
        common: filled by plans of other schemes for the same model, loss and attention.
    """
    spec = get_target(target)
    chosen = resolve(scheme, parameters_of(model), model.parameters)
    graphs = Graphs.build(
        with_factors(model, chosen),
        make_loss(loss),
        make_optimizer(optimizer),
        chosen,
        "frozen",
        attention=attention,
        fuses_gradients=spec.device is None,
        common=common,
    )
    graphs, kernels, plan = plan_in_parts(graphs, spec, model.batch, None)
    _, kernels, plan = store_panels(graphs, kernels, plan, spec)
    step = next(step for step in plan.steps if step.name == "train_step")
    calls = Counter(call.kernel for call in step.calls)
    cycles = estimate_cycles(kernels, plan.flops, spec)
    return PlannedCost(
        resident_bytes=plan.frozen_bytes + plan.state_bytes,
        transient_bytes=max(arena.arena_bytes for arena in plan.arenas.values()),
        calls=dict(calls),
        cycles={kernel: cycles[kernel] for kernel in calls},
    )


def perform(task: Mapping[str, Any]) -> dict[str, Any]:
    """Plan a scheme that was written down as plain data."""
    scheme = scheme_of(task["scheme"], "the scheme to plan", task["scheme"]["name"])
    options = {key: task[key] for key in ("target", "optimizer", "loss", "attention")}
    model, common = _model(task["model"], task["loss"], task["attention"])
    return asdict(plan_scheme(model, scheme, common=common, **options))


@functools.lru_cache(maxsize=1)
def _model(folder: str, _loss: str, _attention: str) -> tuple[ImportedModel, InCommon]:
    return load_model(Path(folder)), InCommon()
