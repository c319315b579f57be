"""``pock search``: find what to update under a budget, by measurements on the user's data."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pock_tvm.cli.options import attention_option, data_option, head_option, json_option
from pock_tvm.cli.output import format_bytes, print_json, print_rows, print_table
from pock_tvm.cli.progress import ProgressLine

if TYPE_CHECKING:
    from pock_tvm.samples.columns import Columns
    from pock_tvm.search import SearchResult


@click.command("search")
@click.argument("model")
@data_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="NAME.toml to write. Beside it go NAME.sqlite with every result, from which an "
    "interrupted search goes on, NAME.html and NAME.json with the report, and NAME.work.",
)
@click.option("--memory", help="48MB of weights, state and transients; 0.25x of full's transients.")
@click.option("--time", "time_", help="12ms a step on one thread, or 0.5x of full's.")
@click.option("--batch", type=click.IntRange(1), default=8, show_default=True, help="Of a step.")
@click.option(
    "--shape", "shapes", multiple=True, metavar="NAME=8,128", help="As for `pock compile`."
)
@head_option
@click.option("--output-name", help="As for `pock compile`.")
@click.option("--target", default="host", show_default=True, help="See `pock targets`.")
@click.option("--optimizer", default="adamw", show_default=True, help="As for `pock compile`.")
@click.option("--loss", default="cross_entropy", show_default=True, help="As for `pock compile`.")
@attention_option
@click.option("--lr", type=click.FloatRange(0, min_open=True), default=3e-3, show_default=True)
@click.option("--steps", type=click.IntRange(1), default=60, show_default=True, help="Of a run.")
@click.option(
    "--seeds", type=click.IntRange(1), default=3, show_default=True, help="Of a contribution."
)
@click.option(
    "--measure",
    type=click.Choice(["accuracy", "loss"]),
    default="accuracy",
    show_default=True,
    help="What contributions are of; held-out loss tells finer differences.",
)
@click.option("--samples", type=click.IntRange(1), default=20_000, show_default=True)
@click.option("--proof-steps", type=click.IntRange(1), default=150, show_default=True)
@click.option("--proof-seeds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--workers", type=click.IntRange(1), help="Processes; default: one per core.")
@click.option("--ray", metavar="ADDRESS", help="Spread the runs over this Ray cluster instead.")
@json_option
def search_command(*, as_json: bool, **arguments: Any) -> None:
    """Search for what to update of MODEL, named as for `pock compile`.

    Fine-tunes each weight at several ratios, and each number of last biases, for a few steps;
    searches among all combinations by evolution; plans, compiles and fine-tunes the best ones
    beside the full update, biases, last tensors and LoRA of the same bytes.

    \b
    $ pock search net:digits --data mine.npz --memory 0.25x --time 0.5x -o mine.toml
    $ pock compile net:digits -o mine --update mine.toml
    """
    with ProgressLine() as progress:
        result = search_reference(progress=progress, **arguments)
    if as_json:
        print_json({**result.summary, "scheme": str(result.path), "report": str(result.report)})
        return
    best = result.summary["chosen"]
    print_rows(
        f"{result.summary['model']}: {best['words']}",
        {
            "scheme": result.path,
            "report": result.report,
            "weights, state and transients": format_bytes(best["total_bytes"]),
            "transient": format_bytes(best["transient_bytes"]),
            "a step, predicted": f"{best['step_ms']:.3g} ms",
            "predicted and real order, Spearman": f"{result.summary['ranking']['spearman']:.2f}",
        },
    )
    print_table("proof", ("scheme", "accuracy", "±", "transient", "ms"), _rows(result))
    if result.summary["diverged"]:
        click.echo(f"runs that diverged: {', '.join(result.summary['diverged'])}")


def search_reference(
    *,
    model: str,
    data: Path,
    columns: "Columns | None" = None,
    output: Path,
    memory: str | None,
    time_: str | None,
    batch: int,
    shapes: Sequence[str],
    output_name: str | None,
    head: int | None = None,
    lr: float,
    workers: int | None,
    ray: str | None,
    progress: ProgressLine,
    **settings: Any,
) -> "SearchResult":
    """Import the model that a reference names and search; budgets and data are checked first."""
    from pock_tvm.cli.samples import check_readable, read_for_model
    from pock_tvm.errors import BatchError
    from pock_tvm.losses import make_loss
    from pock_tvm.samples.source import LABELS
    from pock_tvm.search import LocalPool, RayPool, Samples, search
    from pock_tvm.search.settings import SearchSettings, parse_memory, parse_time

    if memory:
        parse_memory(memory)
    if time_:
        parse_time(time_)
    chosen = SearchSettings(learning_rate=lr, **settings)
    loss = make_loss(chosen.loss)
    check_readable(data)
    progress("import", 0, 1)
    from pock_tvm.compilation.new_head import with_new_head
    from pock_tvm.compilation.sample_form import sample_form
    from pock_tvm.frontend import load_model
    from pock_tvm.frontend.shapes import parse_shapes

    imported = load_model(model, batch, shapes=parse_shapes(shapes), output=output_name)
    if head:
        imported = with_new_head(imported, head)
    progress("read", 0, 1)
    arrays = read_for_model(data, sample_form(imported, loss), columns)
    if LABELS not in arrays:
        raise BatchError(f"the loss {loss.name} takes no labels; a search needs some")
    labels = arrays.pop(LABELS)
    samples = Samples(arrays, labels)
    with ExitStack() as stack:
        pool: RayPool | LocalPool = RayPool(ray) if ray else LocalPool(workers)
        stack.enter_context(pool)
        return search(
            imported,
            samples,
            output,
            memory=memory,
            time=time_,
            settings=chosen,
            pool=pool,
            progress=progress,
        )


def _rows(result: "SearchResult") -> list[tuple[object, ...]]:
    return [
        (
            row["name"],
            "-" if row["accuracy"] is None else f"{row['accuracy']:.1%}",
            "-" if row["deviation"] is None else f"{row['deviation']:.1%}",
            format_bytes(row["transient_bytes"]),
            "-" if row["step_ms"] is None else f"{row['step_ms']:.3g}",
        )
        for row in result.summary["proof"]
    ]
