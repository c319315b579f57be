"""Choose the finalists among the best planned schemes by fine-tuning each on held-out samples.

The sum of contributions ranks thousands of schemes, but the leaders lie closer together than it
tells apart. Here each runs under masks, at every rate and with several orders of samples.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from pock_tvm.search.pool import Task
from pock_tvm.search.selection import Selection
from pock_tvm.search.study import Study, key_of


def try_finalists(study: Study, selection: Selection) -> Selection:
    """Return the selection with those for finalists that reach the least held-out loss."""
    s = study.settings
    if min(s.tried, len(selection.finalists)) < 2:
        return replace(selection, finalists=selection.finalists[: s.finalists])
    rates = [s.learning_rate * factor for factor in s.rates]
    runs = {
        (choice, rate, seed): f"{key_of(choice)}|{rate:g}|{seed}"
        for choice in selection.finalists
        for rate in rates
        for seed in range(s.seeds)
    }
    tasks: dict[str, Task] = {
        key: study.masked_run(
            study.space.scheme(choice),
            train=study.workspace.data("train"),
            measure=study.workspace.data("held_out"),
            steps=s.proof_steps,
            learning_rate=rate,
            seed=seed,
        )
        for (choice, rate, seed), key in runs.items()
    }
    results = study.do("trial", tasks)
    reached = {
        choice: min(
            mean_loss([results[runs[choice, rate, seed]] for seed in range(s.seeds)])
            for rate in rates
        )
        for choice in selection.finalists
    }
    order = sorted(selection.finalists, key=reached.__getitem__)
    return replace(selection, finalists=tuple(order[: s.finalists]))


def mean_loss(results: Sequence[Mapping[str, Any]]) -> float:
    """Return the mean loss of runs; infinite where one diverged: no rate to rely on."""
    losses = [result.get("loss") for result in results]
    return fmean(math.inf if loss is None else loss for loss in losses)
