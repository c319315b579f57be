"""Fine-tune the best schemes for real, beside what everybody would try first."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

import numpy as np

from pock_tvm.search.contributions import rank_correlation, value
from pock_tvm.search.cost_model import Cost
from pock_tvm.search.evolve import draw
from pock_tvm.search.kernel_times import profile
from pock_tvm.search.pool import Task
from pock_tvm.search.runs import Run
from pock_tvm.search.selection import Selection
from pock_tvm.search.space import Choice
from pock_tvm.search.study import PROFILE_STEPS, Study, cost_of, key_of
from pock_tvm.search.trial import mean_loss
from pock_tvm.update import LoRA, UpdateScheme

LORA_RANK = 4
DRAWN = 500
"""Choices drawn beside the planned ones, so that some stand all over the scale of predictions."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A scheme that was compiled and fine-tuned."""

    name: str
    words: str
    predicted: Cost
    planned_bytes: int
    """What the artifact's manifest says: weights, state and transients."""
    transient_bytes: int
    step_ms: float | None
    """Measured on one thread; None where it cannot run here."""
    learning_rate: float
    accuracies: tuple[float, ...] = field(default=())
    losses: tuple[float, ...] = field(default=())
    diverged: int = 0

    def describe(self) -> dict[str, Any]:
        """Return plain data, with means and deviations."""
        resident, transient, ms = self.predicted
        return {
            "name": self.name,
            "words": self.words,
            "accuracy": fmean(self.accuracies) if self.accuracies else None,
            "deviation": stdev(self.accuracies) if len(self.accuracies) > 1 else None,
            "loss": fmean(self.losses) if self.losses else None,
            "accuracies": list(self.accuracies),
            "diverged": self.diverged,
            "learning_rate": self.learning_rate,
            "predicted_bytes": int(resident + transient),
            "planned_bytes": self.planned_bytes,
            "transient_bytes": self.transient_bytes,
            "predicted_ms": ms,
            "step_ms": self.step_ms,
        }


def prove(study: Study, selection: Selection) -> list[Contender]:
    """Compile, time and fine-tune the finalists and the usual schemes of the same bytes."""
    schemes = contenders(study, selection)
    # By what they are and not by what they are called: another budget has other finalists.
    keys = {name: _digest(scheme) for name, (scheme, _) in schemes.items()}
    costs = study.plan({keys[name]: scheme for name, (scheme, _) in schemes.items()})
    artifacts = {}
    for index, (name, (scheme, _)) in enumerate(schemes.items()):
        study.tell("compile for the proof", index, len(schemes), name)
        artifacts[name] = study.workspace.artifact(keys[name], scheme, study.setting)
    rates = _best_rates(study, {keys[n]: str(a.directory) for n, a in artifacts.items()})
    s = study.settings
    tasks: dict[str, Task] = {}
    for name, artifact in artifacts.items():
        for seed in range(s.proof_seeds):
            tasks[f"{keys[name]}|{seed}"] = Run(
                artifact=str(artifact.directory),
                train=study.workspace.data("learn"),
                measure=study.workspace.data("test"),
                steps=s.proof_steps,
                learning_rate=rates[keys[name]],
                seed=seed,
            ).as_task()
    results = study.do("proof", tasks)
    found = []
    for name, artifact in artifacts.items():
        mine = [results[f"{keys[name]}|{seed}"] for seed in range(s.proof_seeds)]
        regions = artifact.description.regions
        found.append(
            Contender(
                name=name,
                words=schemes[name][1],
                predicted=cost_of(costs[keys[name]], selection.times),
                planned_bytes=regions.frozen_bytes + regions.state_bytes + regions.arena_bytes,
                transient_bytes=regions.arena_bytes,
                step_ms=_measured_ms(study, keys[name], artifact),
                learning_rate=rates[keys[name]],
                accuracies=tuple(r["accuracy"] for r in mine if r.get("accuracy") is not None),
                losses=tuple(r["loss"] for r in mine if r.get("loss") is not None),
                diverged=sum(r.get("loss") is None for r in mine),
            )
        )
    return found


def before(study: Study) -> dict[str, Any]:
    """Measure the model as it came on the samples of the proof."""
    test = study.workspace.data("test")
    task = study.masked_run(
        study.scheme(study.space.nothing), train=test, measure=test, steps=0, learning_rate=0.0
    )
    return study.do("before", {"test": task})["test"]


def contenders(study: Study, selection: Selection) -> dict[str, tuple[UpdateScheme, str]]:
    """Return schemes by name, each with what it is in words."""
    space = study.space
    found = {
        f"searched {rank}": (space.scheme(choice, f"searched {rank}"), space.in_words(choice))
        for rank, choice in enumerate(selection.finalists, 1)
    }
    best = cost_of(selection.plans[selection.finalists[0]], selection.times)
    allowed = best[0] + best[1]

    def last_biases(count: int) -> UpdateScheme:
        return space.scheme(Choice(count, space.nothing.ratios), "bias-only")

    def last_tensors(count: int) -> UpdateScheme:
        return UpdateScheme(name="last-k", trainable=study.learnable[-count:])

    adaptable = study.adaptable

    def low_rank(count: int) -> UpdateScheme:
        lora = LoRA(rank=LORA_RANK, alpha=2.0 * LORA_RANK, targets=adaptable[-count:])
        return UpdateScheme(name="LoRA", trainable=space.always, lora=(lora,))

    head = len(space.always)
    for name, make, least, most in (
        ("bias-only", last_biases, 1, len(space.biases)),
        ("last-k", last_tensors, head + 1, len(study.learnable)),
        ("LoRA", low_rank, 1, len(adaptable)),
    ):
        count = _largest(study, name, make, least, most, allowed)
        if count:
            found[name] = (make(count), f"the last {count} of {most}, as many as fit")
    found["full"] = (study.everything, "everything")
    found["head"] = (space.scheme(space.nothing, "head"), "the head alone")
    return found


def spread(values: np.ndarray, count: int) -> list[int]:
    """Return the places of ``count`` different values, as evenly from least to greatest as can be.

    Args:
        values: of shape (n,); ``count`` is cut to n.
        count: of places.
    """
    free = np.ones(len(values), bool)
    found: list[int] = []
    for wanted in np.linspace(values.min(), values.max(), min(count, len(values))):
        nearest = int(np.where(free, np.abs(values - wanted), np.inf).argmin())
        free[nearest] = False
        found.append(nearest)
    return found


def rank_real(study: Study, selection: Selection) -> dict[str, Any]:
    """Fine-tune schemes from all over the scale of predictions, and compare the orders."""
    s, space = study.settings, study.space
    fitness = selection.objective.gains
    drawn = draw(space, DRAWN, np.random.default_rng([s.seed, 2]))
    pool = [*selection.plans, *(choice for choice, _ in selection.found.best)]
    pool = list(dict.fromkeys([*pool, *map(Choice.of, drawn)]))
    predicted = fitness.of(np.stack([choice.genes() for choice in pool]))
    picked = [pool[i] for i in spread(predicted, s.ranked)]
    tasks = {
        f"{key_of(choice)}|{seed}": study.masked_run(
            space.scheme(choice),
            train=study.workspace.data("train"),
            measure=study.workspace.data("test"),
            steps=s.steps,
            learning_rate=s.learning_rate,
            seed=seed,
        )
        for choice in picked
        for seed in range(s.proof_seeds)
    }
    results = study.do("ranking", tasks)
    rows: list[dict[str, Any]] = []
    for choice in picked:
        values = [
            value(results[f"{key_of(choice)}|{seed}"], s.measure) for seed in range(s.proof_seeds)
        ]
        valid = [v for v in values if v is not None]
        rows.append(
            {
                "words": space.in_words(choice),
                "predicted": float(fitness.of(choice.genes()[None])[0]),
                "real": fmean(valid) if valid else None,
            }
        )
    known = [row for row in rows if row["real"] is not None]
    rho = rank_correlation([r["predicted"] for r in known], [r["real"] for r in known])
    return {"spearman": rho, "schemes": rows, "measure": s.measure}


def _largest(
    study: Study,
    name: str,
    make: Callable[[int], UpdateScheme],
    least: int,
    most: int,
    allowed: float,
) -> int:
    """Return the largest count whose plan fits, 0 where none does; costs grow with the count."""
    low, high = least - 1, most
    while low < high:
        middle = (low + high + 1) // 2
        key = f"{name} {middle}"
        if study.plan({key: make(middle)})[key].total_bytes <= allowed:
            low = middle
        else:
            high = middle - 1
    return low if low >= least else 0


def _best_rates(study: Study, artifacts: Mapping[str, str]) -> dict[str, float]:
    """Return the rate of each contender that does best on held-out samples."""
    s = study.settings
    rates = [s.learning_rate * factor for factor in s.rates]
    tasks = {
        f"{name}|{rate:g}|{seed}": Run(
            artifact=artifact,
            train=study.workspace.data("train"),
            measure=study.workspace.data("held_out"),
            steps=s.proof_steps,
            learning_rate=rate,
            seed=seed,
        ).as_task()
        for name, artifact in artifacts.items()
        for rate in rates
        for seed in range(s.seeds)
    }
    results = study.do("rates", tasks)

    def loss(name: str, rate: float) -> float:
        return mean_loss([results[f"{name}|{rate:g}|{seed}"] for seed in range(s.seeds)])

    return {name: min(rates, key=lambda rate: loss(name, rate)) for name in artifacts}


def _measured_ms(study: Study, name: str, artifact: Any) -> float | None:
    if study.settings.target != "host":
        return None
    kept = study.database.get("measured", name)
    if kept is None:
        study.tell("time", 0, 1, name)
        kept = profile(artifact, threads=1, steps=PROFILE_STEPS)
        study.database.put("measured", name, kept)
    return float(kept["step_ns"]) / 1e6


def _digest(scheme: UpdateScheme) -> str:
    """Return a name of what a scheme trains."""
    content = {key: value for key, value in scheme.describe().items() if key != "name"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
