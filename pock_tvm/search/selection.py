"""From contributions and costs to the best schemes: search, plan the best, search again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pock_tvm.errors import MemoryBudgetError
from pock_tvm.search.baselines import greedy, solve
from pock_tvm.search.contributions import Contribution, gains_of
from pock_tvm.search.cost_model import Cost, CostModel, probes
from pock_tvm.search.evolve import Found, evolve, search_at_random
from pock_tvm.search.kernel_times import KernelTimes
from pock_tvm.search.objective import Budget, Objective
from pock_tvm.search.planning import PlannedCost
from pock_tvm.search.settings import Limits
from pock_tvm.search.space import Choice, Space
from pock_tvm.search.study import FULL, Study, cost_of

ROUNDS = 12
PLANNED_A_ROUND = 6
COMPARED_SEEDS = 5


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What the search chose, all of it planned."""

    full: Choice
    full_cost: Cost
    budget: Budget
    finalists: tuple[Choice, ...]
    objective: Objective
    found: Found
    plans: Mapping[Choice, PlannedCost]
    times: KernelTimes
    rounds: int
    baselines: Mapping[str, Any]


def select(study: Study, found: Mapping[str, Contribution], limits: Limits) -> Selection:
    """Search for the best schemes under the budgets.

    Raises:
        MemoryBudgetError: even the head alone costs more.
    """
    space, settings = study.space, study.settings
    full = Choice(len(space.biases), (len(space.ratios),) * len(space.weights))
    everything = study.plan({FULL: study.everything})[FULL]
    plans = study.plan_choices(probes(space))
    times = study.kernel_times(plans, everything)
    planned = {choice: cost_of(plan, times) for choice, plan in plans.items()}
    full_cost = cost_of(everything, times)
    budget = limits.budget(full_cost[1], full_cost[2])
    if not budget.admits(planned[space.nothing]):
        raise MemoryBudgetError(_impossible(space, planned[space.nothing], budget))
    gains = gains_of(space, found)
    for turn in range(1, ROUNDS + 1):
        objective = Objective(gains, CostModel.fit(space, planned), budget, planned)
        study.tell("search", turn - 1, ROUNDS, f"{len(planned)} schemes planned")
        best = evolve(space, objective, samples=settings.samples, seed=settings.seed)
        leaders = [choice for choice, _ in best.best[: settings.finalists]]
        if all(choice in planned for choice in leaders) and leaders:
            break
        wanted = [choice for choice, _ in best.best if choice not in planned][:PLANNED_A_ROUND]
        wanted += [c for c in _others(space, objective).values() if c not in planned]
        fresh = study.plan_choices(wanted)
        plans.update(fresh)
        planned.update({choice: cost_of(plan, times) for choice, plan in fresh.items()})
    objective = Objective(gains, CostModel.fit(space, planned), budget, planned)
    fitting = [choice for choice, cost in planned.items() if budget.admits(cost)]
    fitting.sort(key=lambda c: (-float(gains.of(c.genes()[None])[0]), planned[c]))
    return Selection(
        full=full,
        full_cost=full_cost,
        budget=budget,
        finalists=tuple(fitting[: max(settings.tried, settings.finalists)]),
        objective=objective,
        found=best,
        plans=plans,
        times=times,
        rounds=turn,
        baselines=compare(space, objective, settings.samples),
    )


def compare(space: Space, objective: Objective, samples: int) -> dict[str, Any]:
    """Search the same objective by evolution and at random on several seeds, and without chance."""
    rows = []
    curves: dict[str, Any] = {}
    for seed in range(COMPARED_SEEDS):
        ours = evolve(space, objective, samples=samples, seed=seed)
        theirs = search_at_random(space, objective, samples=samples, seed=seed)
        best = [found.best[0][1] if found.best else None for found in (ours, theirs)]
        rows.append({"seed": seed, "evolution": best[0], "random": best[1]})
        if not seed:
            curves = {"evolution": list(ours.curve), "random": list(theirs.curve)}
    others = {
        name: float(objective.fitness(choice.genes()[None])[0])
        for name, choice in _others(space, objective).items()
    }
    return {"seeds": rows, "curves": curves, **others}


def _others(space: Space, objective: Objective) -> dict[str, Choice]:
    """Return what greedy steps and, where SciPy is at hand, the integer program choose."""
    found = {"greedy": greedy(space, objective)}
    try:
        solved = solve(space, objective)
    except ImportError:
        return found
    return found if solved is None else {**found, "integer program": solved}


def _impossible(space: Space, least: Cost, budget: Budget) -> str:
    asked = []
    if budget.total_bytes is not None:
        asked.append(f"{least[0] + least[1]:,.0f} bytes, not {budget.total_bytes:,.0f}")
    if budget.transient_bytes is not None:
        asked.append(f"{least[1]:,.0f} bytes of transients, not {budget.transient_bytes:,.0f}")
    if budget.step_ms is not None:
        asked.append(f"{least[2]:.3g} ms, not {budget.step_ms:.3g}")
    return (
        f"the budget cannot be met: the least possible is {space.in_words(space.nothing)} alone "
        f"({', '.join(space.always)}), which needs {' and '.join(asked)}; give more, or a smaller "
        "batch"
    )
