"""Plan training steps and say what bytes they need; nothing is compiled and nothing runs.

    python -m benchmarks.memory --models mobilenet_v2,distilbert --updates full,preset --batches 1,8

Prints one JSON line per plan: ``transient_bytes`` (the arena of all entry points, without weights
and optimizer state), ``predict_bytes`` (the same of prediction alone), ``lower_bound_bytes`` (the
largest live set of the chosen order), ``import_order_bytes`` (the same of the graph as it was
derived, every prefix at once), ``least_bytes`` (the last point of the frontier, and
``least_recomputed``, what it costs), and ``prefix_parts``. ``--save`` appends the rows to
``benchmarks/results/memory.jsonl``.

With ``--resident`` each case is compiled, trained for three steps by the standalone executable, and
``resident_bytes``, the most memory that it had, stands beside ``planned_bytes``; ``--save`` appends
to ``benchmarks/results/resident.jsonl`` then.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.resident import measure
from pock_tvm.compilation.graphs import Graphs
from pock_tvm.compilation.inventory import parameters_of
from pock_tvm.compilation.prefix import plan_in_parts
from pock_tvm.frontend import ImportedModel, load_model
from pock_tvm.losses import make_loss
from pock_tvm.optimizers import make_optimizer
from pock_tvm.relay_passes.step import peak_live_bytes
from pock_tvm.targets import get_target
from pock_tvm.update import UpdateScheme, learnable_names, parse_update, resolve

RESULTS = Path(__file__).parent / "results" / "memory.jsonl"
DEFAULT_LOSS = "cross_entropy"
LOSSES = {"clip": "contrastive"}
"""Of zoo models that do not classify."""


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    """Run the benchmark and return its rows."""
    options = _parse(arguments)
    rows = []
    for model in options.models.split(","):
        for batch in map(int, options.batches.split(",")):
            for update in options.updates.split(","):
                print(f"{model}, batch {batch}, {update}", file=sys.stderr, flush=True)
                row = resident if options.resident else plan
                rows.append(row(model, batch, update, options.optimizer))
                print(json.dumps(rows[-1]), flush=True)
                if options.save:
                    where = RESULTS.with_stem("resident") if options.resident else RESULTS
                    with where.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
    return rows


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", required=True, help="zoo names or package.module:function")
    parser.add_argument("--updates", default="full,bias,last:2,preset")
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--optimizer", default="sgd")
    parser.add_argument("--resident", action="store_true", help="compile and measure, too")
    parser.add_argument("--save", action="store_true", help=f"append the rows to {RESULTS.name}")
    return parser.parse_args(arguments)


def plan(name: str, batch: int, update: str | UpdateScheme, optimizer: str) -> dict[str, Any]:
    """Return the row of one model."""
    said = update if isinstance(update, str) else update.name
    started = time.perf_counter()
    model = _load(name, batch)
    parameters = parameters_of(model)
    names = learnable_names(parameters)
    scheme = parse_update(update, names) if isinstance(update, str) else update
    chosen = resolve(scheme, parameters, model.parameters)
    loss = make_loss(LOSSES.get(name, DEFAULT_LOSS))
    graphs = Graphs.build(model, loss, make_optimizer(optimizer), chosen, "frozen")
    imported = max(peak_live_bytes(one.step) for one in graphs.steps)
    graphs, _, planned = plan_in_parts(graphs, get_target("host"), batch, None)
    arenas = planned.arenas.values()
    transient = max(a.arena_bytes for a in arenas)
    bound = max(a.lower_bound_bytes for a in arenas)
    resident = planned.frozen_bytes + planned.state_bytes
    return {
        "model": name,
        "batch": batch,
        "update": said,
        "optimizer": optimizer,
        "transient_bytes": transient,
        "predict_bytes": planned.arenas["predict"].arena_bytes,
        "lower_bound_bytes": bound,
        "ratio": round(transient / bound, 4),
        "import_order_bytes": imported,
        "least_bytes": planned.prices[-1].total_bytes - resident,
        "least_recomputed": round(planned.more_time(planned.prices[-1]), 4),
        "recomputed": round(planned.more_time(planned.price), 4),
        "resident_bytes": resident,
        "state_bytes": planned.state_bytes,
        "prefix_parts": dict(graphs.parts),
        "seconds": round(time.perf_counter() - started, 1),
    }


def resident(name: str, batch: int, update: str, optimizer: str) -> dict[str, Any]:
    """Return the row of one model, measured."""
    about = {"model": name, "batch": batch, "update": update, "optimizer": optimizer}
    loss = LOSSES.get(name, DEFAULT_LOSS)
    return about | measure(_load(name, batch), update, optimizer, loss)


def _load(name: str, batch: int) -> ImportedModel:
    return load_model(name if ":" in name else f"zoo:{name}", batch)


if __name__ == "__main__":
    main()
