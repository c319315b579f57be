"""What a search found, as plain data: the JSON of the report."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pock_tvm.search.contributions import Contribution, shrunk
from pock_tvm.search.objective import Objective
from pock_tvm.search.proof import Contender
from pock_tvm.search.selection import Selection
from pock_tvm.search.space import Choice
from pock_tvm.search.study import Study, cost_of


def outcome_of(
    study: Study,
    found: Mapping[str, Contribution],
    guesses: Mapping[str, Any],
    selection: Selection,
    ranking: Mapping[str, Any],
    proof: Sequence[Contender],
) -> dict[str, Any]:
    """Put everything together."""
    best = selection.finalists[0]
    believed = shrunk(found)
    singles = study.space.singles()
    costs = selection.objective.costs
    rows = []
    for name, choice in singles.items():
        resident, transient, ms = map(float, costs(choice.genes()[None])[0])
        rows.append(
            {
                **found[name].describe(),
                "believed": believed[name],
                "total_bytes": resident + transient,
                "step_ms": ms,
            }
        )
    return {
        "model": study.model.name,
        "batch": study.model.batch,
        "target": study.settings.target,
        "measure": study.settings.measure,
        "settings": study.settings.describe(),
        "budget": asdict(selection.budget),
        "full": dict(
            zip(("resident_bytes", "transient_bytes", "step_ms"), selection.full_cost, strict=True)
        ),
        "contributions": rows,
        "diverged": [row["name"] for row in rows if row["diverged"]],
        "estimators": dict(guesses),
        "chosen": _described(study, selection, best),
        "finalists": [_described(study, selection, choice) for choice in selection.finalists],
        "frontier": frontier(study, selection),
        "search": {
            "rounds": selection.rounds,
            "samples": study.settings.samples,
            "schemes_planned": len(selection.plans),
            **selection.baselines,
        },
        "ranking": dict(ranking),
        "proof": [contender.describe() for contender in proof],
    }


def frontier(study: Study, selection: Selection) -> list[dict[str, Any]]:
    """Return the planned schemes that no other one beats in value, bytes and time at once."""
    rows = [_described(study, selection, choice) for choice in selection.plans]
    return [
        row
        for row in sorted(rows, key=lambda r: r["total_bytes"])
        if not any(_beats(other, row) for other in rows)
    ]


def _beats(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    signs = (("predicted_gain", -1), ("total_bytes", 1), ("step_ms", 1))
    differences = [sign * (one[key] - other[key]) for key, sign in signs]
    return all(d <= 0 for d in differences) and any(d < 0 for d in differences)


def _described(study: Study, selection: Selection, choice: Choice) -> dict[str, Any]:
    plan = selection.plans[choice]
    return {
        "words": study.space.in_words(choice),
        "choice": [choice.biases, *choice.ratios],
        "predicted_gain": _gain(selection.objective, choice),
        "resident_bytes": plan.resident_bytes,
        "transient_bytes": plan.transient_bytes,
        "total_bytes": plan.total_bytes,
        "step_ms": cost_of(plan, selection.times)[2],
        "measured_share_of_ms": selection.times.measured_share(plan),
    }


def _gain(objective: Objective, choice: Choice) -> float:
    return float(objective.gains.of(choice.genes()[None])[0])
