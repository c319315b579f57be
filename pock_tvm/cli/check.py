"""``pock check``: are the gradients of a model right, and does a step change what was asked for?"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pock_tvm.cli.options import column_options, head_option, json_option
from pock_tvm.cli.output import print_json, print_rows, print_table
from pock_tvm.cli.progress import ProgressLine

if TYPE_CHECKING:
    from pock_tvm.checking import Report
    from pock_tvm.samples.columns import Columns


@click.command("check")
@click.argument("model")
@click.option("--batch", type=click.IntRange(1), default=2, show_default=True, help="Samples.")
@click.option(
    "--shape", "shapes", multiple=True, metavar="NAME=8,128", help="As in `pock compile`."
)
@head_option
@click.option("--output-name", help="As in `pock compile`.")
@click.option("--update", default="full", show_default=True, help="As in `pock compile`.")
@click.option("--optimizer", default="sgd", show_default=True, help="As in `pock compile`.")
@click.option("--loss", default="cross_entropy", show_default=True, help="As in `pock compile`.")
@click.option("--clip", metavar="KIND:LIMIT", help="As in `pock compile`.")
@click.option(
    "--batch-norm", type=click.Choice(["frozen", "train"]), default="frozen", show_default=True
)
@click.option(
    "--dropout/--no-dropout",
    default=False,
    show_default=True,
    help="As in `pock compile`; autograd, whose masks are others, is left out.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="As of `pock train`, a batch at least; random samples without.",
)
@column_options
@click.option(
    "--lr",
    "learning_rate",
    type=click.FloatRange(0, min_open=True),
    default=0.01,
    show_default=True,
)
@click.option(
    "--directions",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Along which each tensor is moved.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of directions and samples.")
@json_option
def check_command(*, as_json: bool, **arguments: Any) -> None:
    """Check the gradients of MODEL, and one compiled step.

    MODEL is what `pock compile` takes. In float64, the derived gradient of every tensor that learns
    is compared with central differences of the loss, along random directions (to 1e-6 of the
    gradient, and what rounding makes of a loss), and with autograd, where MODEL is a PyTorch module
    (to 1e-6). Then MODEL is compiled, does one step, and every tensor is looked at: what is frozen
    must be the same bit for bit, what learns must have changed as it does in float64 (to 2e-2 of
    the change: nets with kinks flip signs in float32). Slow for large models: nothing is tuned in
    float64. Exit code 1 if any tensor fails.

    \b
    $ pock check my_models:small_net --update bias
    build with update bias, loss 1.5580
      tensor                     learns  differences  autograd  step     verdict
      features.norm.bias         whole   3.0e-11      3.4e-16   2.9e-07  ok
      features.depthwise.bias    whole   2.2e-11      1.6e-16   1.3e-05  ok
      features.pointwise.bias    whole   4.3e-11      4.2e-16   3.3e-06  ok
      classifier.weight          whole   1.7e-11      2.4e-16   8.2e-06  ok
      classifier.bias            whole   4.8e-11      0.0e+00   1.7e-06  ok
      6 frozen tensors                                                   same bits
    """
    with ProgressLine() as progress:
        report = check(progress=progress, **arguments)
    if as_json:
        print_json(report.as_dict())
    else:
        print_report(report)
    if report.failed:
        sys.exit(1)


def check(
    *,
    model: str,
    batch: int,
    shapes: Sequence[str] = (),
    output_name: str | None = None,
    head: int | None = None,
    data: Path | None,
    columns: "Columns | None" = None,
    loss: str = "cross_entropy",
    progress: ProgressLine,
    **options: Any,
) -> "Report":
    """Import the model that a reference names, and PyTorch's form of it where there is one."""
    from pock_tvm.cli.samples import check_readable, read_for_model
    from pock_tvm.losses import make_loss

    described = make_loss(loss)
    if data is not None:
        check_readable(data)
    from pock_tvm.checking import check_model
    from pock_tvm.compilation.new_head import with_new_head
    from pock_tvm.compilation.sample_form import sample_form
    from pock_tvm.frontend import load_model
    from pock_tvm.frontend.shapes import parse_shapes

    progress("import", 0, 1)
    imported = load_model(model, batch, shapes=parse_shapes(shapes), output=output_name)
    if head:
        imported = with_new_head(imported, head)
    samples = (
        None if data is None else read_for_model(data, sample_form(imported, described), columns)
    )
    # PyTorch's module has the old head
    autograd = None if head else _autograd(model, output_name)
    return check_model(
        imported, loss=loss, samples=samples, autograd=autograd, progress=progress, **options
    )


def _autograd(model: str, output_name: str | None) -> Any:
    """Return PyTorch's gradients as a function; None for what is no module."""
    if model.endswith((".onnx", ".pt2", ".tflite")) or ":" not in model:
        return None
    from pock_tvm.checking.autograd import torch_gradients
    from pock_tvm.frontend.torch_source import load_source

    source = load_source(model, output_name)
    return lambda samples, settings: torch_gradients(
        source, samples, settings.loss, settings.batch_norm
    )


def print_report(report: "Report") -> None:
    """Print one line per tensor that learns or fails."""
    shown = [t for t in report.tensors if t.learns != "frozen" or t.problems]
    print_table(
        f"{report.model} with update {report.update}, loss {report.loss:.4f}{_dropout(report)}",
        ("tensor", "learns", "differences", "autograd", "step", "verdict"),
        [
            (t.name, t.learns, *map(_short, (t.finite_differences, t.autograd, t.step)), t.verdict)
            for t in shown
        ],
    )
    print_rows(
        "",
        {
            "frozen, the same bit for bit": len(report.tensors) - len(shown),
            "failed": len(report.failed),
        },
    )


def _dropout(report: "Report") -> str:
    """Say what became of a model's dropouts, where it has any."""
    if not report.dropouts:
        return ""
    places = f"dropout in {report.dropouts} places"
    return f", {places}" if report.dropout else f", without {places} (--dropout)"


def _short(error: float | None) -> str:
    return "-" if error is None else f"{error:.1e}"
