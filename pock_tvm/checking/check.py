"""Check a user's own model: its gradients, and the step that is compiled from them."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pock_tvm.checking import finite_differences, scheme
from pock_tvm.checking.graphs64 import Graphs64, Settings
from pock_tvm.checking.report import Report, TensorCheck
from pock_tvm.checking.samples import draw_samples
from pock_tvm.clipping import make_clipping
from pock_tvm.compilation.inventory import parameters_of
from pock_tvm.compile import compile, dropouts_of
from pock_tvm.errors import BatchError
from pock_tvm.frontend import ImportedModel
from pock_tvm.losses import make_loss
from pock_tvm.optimizers import make_optimizer
from pock_tvm.relay_passes.decompose_batch_norm import Statistics
from pock_tvm.update import head_names, learnable_names, parse_update, resolve

Gradients = Callable[[Mapping[str, np.ndarray], Settings], Mapping[str, np.ndarray]]
Progress = Callable[[str, int, int], None]
AUTOGRAD_TOLERANCE = 1e-6
"""Constants of the imported graph are float32: 6e-8 each, and a net has many."""
_VANISHING = 1e-7
"""A gradient smaller than this share of the largest is 0 but for rounding in float32."""


def check_model(
    model: ImportedModel,
    *,
    update: str = "full",
    loss: str = "cross_entropy",
    optimizer: str = "sgd",
    clip: str | None = None,
    batch_norm: Statistics = "frozen",
    dropout: bool = False,
    samples: Mapping[str, np.ndarray] | None = None,
    learning_rate: float = 0.01,
    directions: int = 2,
    seed: int = 0,
    autograd: Gradients | None = None,
    progress: Progress | None = None,
) -> Report:
    """Check gradients against central differences and autograd, and the step against the scheme.

    Args:
        model: imported by ``pock_tvm.frontend``.
        update: what learns, as ``compile`` takes it.
        loss: as ``compile`` takes it.
        optimizer: as ``compile`` takes it.
        clip: as ``compile`` takes it.
        batch_norm: as ``compile`` takes it.
        dropout: as ``compile`` takes it. PyTorch draws other masks: ``autograd`` is not asked.
        samples: one batch by input name, and ``labels``; drawn at random where None.
        learning_rate: of the one step.
        directions: along which each tensor is moved.
        seed: of directions and samples.
        autograd: gives the gradients that another framework finds; see ``autograd.py``.
        progress: called as stages go by.

    Raises:
        PockError: what ``compile`` raises; samples that do not fit the model.
    """
    tell = progress or (lambda stage, done, total: None)
    dropouts = dropouts_of(model, wanted=dropout)
    parameters = parameters_of(model)
    asked = parse_update(update, learnable_names(parameters), head_names(parameters))
    chosen = resolve(asked, parameters, model.parameters)
    settings = Settings(
        loss=make_loss(loss),
        optimizer=make_optimizer(optimizer),
        update=chosen,
        batch_norm=batch_norm,
        clipping=make_clipping(clip) if clip else None,
        dropout=dropout,
    )
    generator = np.random.default_rng(seed)
    tell("derive in float64", 0, 1)
    graphs = Graphs64(model, settings)
    loss_of = graphs.loss()
    batch = (
        _checked(samples, {p.name: p.ty for p in graphs.raw["main"].params}, model)
        if samples
        else draw_samples(graphs, model, generator)
    )
    derived = graphs.gradients()
    loss_value, *outputs = derived(graphs.values(derived, batch, 0.0))
    kept = outputs[len(outputs) - len(graphs.trainable) :]
    gradients = {
        name: graphs.original(name, g) for name, g in zip(graphs.trainable, kept, strict=True)
    }
    errors = _finite_differences(graphs, loss_of, batch, gradients, directions, generator, tell)
    tell("autograd", 0, 1)
    other = dict(autograd(batch, settings)) if autograd and not dropout else {}
    tell("compile", 0, 1)
    options: dict[str, Any] = {"update": update, "loss": loss, "optimizer": optimizer}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "net"
        compile(model, place, clip=clip, batch_norm=batch_norm, dropout=dropout, **options)
        before, after = scheme.step_once(place, batch, learning_rate)
    tell("compare", 0, 1)
    stepping = graphs.step()
    _, *new = stepping(graphs.values(stepping, batch, learning_rate))
    wanted = {
        name: graphs.original(name, value)
        for name, value in zip(stepping.updates, new, strict=False)
        if name in before
    }
    largest = max(float(np.linalg.norm(g)) for g in gradients.values())
    rows = [
        _row(name, graphs, settings, before, after, wanted, gradients, errors, other, largest)
        for name in before
    ]
    return Report(
        model=model.name,
        update=update,
        loss=float(loss_value),
        tensors=tuple(rows),
        dropout=dropout,
        dropouts=dropouts,
    )


def _finite_differences(
    graphs: Graphs64,
    loss_of: Any,
    batch: Mapping[str, np.ndarray],
    gradients: Mapping[str, np.ndarray],
    directions: int,
    generator: np.random.Generator,
    tell: Progress,
) -> dict[str, tuple[float, bool]]:
    values = graphs.loss_values(loss_of, batch)
    errors = {}
    for done, (name, gradient) in enumerate(gradients.items()):
        tell("finite differences", done, len(gradients))

        def loss_at(value: np.ndarray, name: str = name) -> float:
            return float(loss_of({**values, name: graphs.as_in_loss(name, value)})[0])

        errors[name] = finite_differences.directional_error(
            loss_at, graphs.parameters[name], gradient, directions, generator
        )
    return errors


def _row(
    name: str,
    graphs: Graphs64,
    settings: Settings,
    before: Mapping[str, np.ndarray],
    after: Mapping[str, np.ndarray],
    wanted: Mapping[str, np.ndarray],
    gradients: Mapping[str, np.ndarray],
    errors: Mapping[str, tuple[float, bool]],
    other: Mapping[str, np.ndarray],
    largest: float,
) -> TensorCheck:
    update, gradient = settings.update, gradients.get(name)
    allowed = scheme.may_change(name, before[name].shape, update, graphs.moving)
    vanishes = gradient is not None and float(np.linalg.norm(gradient)) <= _VANISHING * largest
    problems = scheme.change_problems(
        before[name], after[name], allowed, None if vanishes else gradient
    )
    found: dict[str, float] = {}
    if name in errors:
        error, right = errors[name]
        if not vanishes:
            found["finite_differences"] = error
        if not right:
            problems.append("finite differences disagree")
    if name in other and gradient is not None:
        error = float(np.linalg.norm(gradient - other[name]))
        size = float(np.linalg.norm(other[name]))
        if not vanishes:
            found["autograd"] = error / size if size else 0.0
        if error > AUTOGRAD_TOLERANCE * size + 1e-9 * largest:
            problems.append("autograd disagrees")
    if name in wanted and not vanishes:
        partial = None if gradient is None else np.where(allowed, gradient, 0)
        found["step"], right = scheme.step_error(before[name], after[name], wanted[name], partial)
        if not right:
            problems.append("the step differs from float64")
    return TensorCheck(
        name=name, learns=_learns(name, settings, graphs.moving), problems=tuple(problems), **found
    )


def _learns(name: str, settings: Settings, moving: tuple[str, ...]) -> str:
    if name in settings.update.channels:
        chosen = settings.update.channels[name]
        return f"{len(chosen.channels)} of {chosen.of} channels"
    if name in settings.update.lazy_rows:
        return "rows of a batch"
    if name in {*settings.update.whole, *scheme.factors_of(settings.update)}:
        return "whole"
    return "statistics" if name in moving else "frozen"


def _checked(
    samples: Mapping[str, np.ndarray], takes: Mapping[str, Any], model: ImportedModel
) -> dict[str, np.ndarray]:
    """Return the first batch of the samples that a user gave."""
    wanted = [spec.name for spec in model.inputs] + (["labels"] if "labels" in takes else [])
    if sorted(samples) != sorted(wanted):
        raise BatchError(f"the data hold {sorted(samples)}; the check takes {sorted(wanted)}")
    batch = {}
    for name in wanted:
        shape = tuple(int(d) for d in takes[name].shape)
        value = samples[name][: shape[0]]
        if value.shape != shape:
            raise BatchError(
                f"{name!r} has shape {samples[name].shape}; the check takes at least {shape}"
            )
        batch[name] = value
    return batch
