"""Choose the finalists among the best planned schemes by fine-tuning each on held-out samples.

The sum of contributions ranks thousands of schemes, but the leaders lie closer together than it
tells apart. Here each runs under masks, at every rate and with several orders of samples. The best
of a few noisy losses is partly luck, so the best third runs again, each at its best rate, with as
many orders as the proof (two rounds of successive halving: Jamieson & Talwalkar 2016,
arXiv:1502.07943).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from pock_tvm.search.pool import Task
from pock_tvm.search.selection import Selection
from pock_tvm.search.space import Choice
from pock_tvm.search.study import Study, key_of

ONE_IN = 3
"""Schemes of which one goes into the second round."""


def try_finalists(study: Study, selection: Selection) -> Selection:
    """Return the selection with those for finalists that reach the least held-out loss."""
    s = study.settings
    if min(s.tried, len(selection.finalists)) < 2:
        return replace(selection, finalists=selection.finalists[: s.finalists])
    rates = [s.learning_rate * factor for factor in s.rates]
    first = [(choice, rate) for choice in selection.finalists for rate in rates]
    reached = _losses(study, first, s.seeds)
    best = {c: min(rates, key=lambda rate: reached[c, rate]) for c in selection.finalists}
    order = sorted(selection.finalists, key=lambda c: reached[c, best[c]])
    some = order[: max(s.finalists, -(-len(order) // ONE_IN))]
    again = _losses(study, [(c, best[c]) for c in some], max(s.seeds, s.proof_seeds))
    some.sort(key=lambda c: again[c, best[c]])
    return replace(selection, finalists=tuple(some[: s.finalists]))


def _losses(
    study: Study, pairs: Sequence[tuple[Choice, float]], seeds: int
) -> dict[tuple[Choice, float], float]:
    """Return the mean held-out loss of each scheme at a rate."""
    s = study.settings
    keys = {(c, rate): [f"{key_of(c)}|{rate:g}|{n}" for n in range(seeds)] for c, rate in pairs}
    tasks: dict[str, Task] = {
        key: study.masked_run(
            study.space.scheme(choice),
            train=study.workspace.data("train"),
            measure=study.workspace.data("held_out"),
            steps=s.proof_steps,
            learning_rate=rate,
            seed=seed,
        )
        for (choice, rate), names in keys.items()
        for seed, key in enumerate(names)
    }
    results = study.do("trial", tasks)
    return {pair: mean_loss([results[key] for key in names]) for pair, names in keys.items()}


def mean_loss(results: Sequence[Mapping[str, Any]]) -> float:
    """Return the mean loss of runs; infinite where one diverged: no rate to rely on."""
    losses = [result.get("loss") for result in results]
    return fmean(math.inf if loss is None else loss for loss in losses)
