"""``pock export``: what was learned, as safetensors, PyTorch state dict, ONNX, or sparse delta."""

from pathlib import Path
from typing import Any

import click

from pock_tvm.cli.deltas import delta_rows
from pock_tvm.cli.options import artifact_argument, json_option, trained_option
from pock_tvm.cli.output import format_bytes, print_json, print_rows
from pock_tvm.cli.progress import ProgressLine

_FORMATS = ("safetensors", "torch", "onnx", "delta")


@click.command("export")
@artifact_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The file to write; its suffix (.safetensors, .pt, .onnx, .delta) names the format.",
)
@click.option("--format", "format_", type=click.Choice(_FORMATS), help="Whatever the suffix says.")
@click.option(
    "--model",
    "source",
    metavar="SOURCE",
    help="For onnx: the model that was compiled (.onnx, .pt2, package.module:function, zoo:NAME).",
)
@click.option("--output-name", help="For onnx, with a PyTorch model: as in `pock compile`.")
@trained_option
@json_option
def export_command(
    *,
    directory: Path,
    output: Path,
    format_: str | None,
    source: str | None,
    output_name: str | None,
    checkpoint: Path | None,
    as_json: bool,
) -> None:
    """Write the model of DIRECTORY as other tools read it.

    Names and layouts are those of the model that came in. A delta holds only what training changed,
    values or low-rank factors; `pock apply-delta` puts it on the original. An ONNX file is the one
    that was compiled, with new values, or made of the PyTorch model that was compiled. Nothing is
    run: an artifact for another machine is exported here too.

    \b
    $ pock export net --checkpoint net.ckpt -o net.delta
    mobilenet_v2
      written                  net.delta
      format                   delta
      size                     5.1 MiB
      steps since compilation  12
      changed                  5.0 MiB of 13.6 MiB
      dense                    54 tensors, 5.0 MiB
    """
    from pock_tvm.export import export_file, format_of, read_delta, read_trained

    chosen = format_of(output, format_)
    if source is not None and chosen != "onnx":
        raise click.UsageError(f"--model is for the format onnx, not {chosen}")
    if output_name is not None and (source is None or source.endswith(".onnx")):
        raise click.UsageError(
            "--output-name is for a PyTorch --model; an .onnx file keeps its own"
        )
    with ProgressLine() as progress:
        progress("read", 0, 1)
        trained = read_trained(directory, checkpoint)
        progress("write", 0, 1)
        export_file(trained, output, format=chosen, source=source, output_name=output_name)
    changed: dict[str, Any] = {}
    if chosen == "delta":
        written = read_delta(output)
        changed = {
            "changed_bytes": written.nbytes,
            "model_bytes": sum(value.nbytes for value in trained.initial.values()),
            "changes": written.by_kind(),
        }
    result = {
        "model": trained.description.model,
        "output": str(output),
        "format": chosen,
        "bytes": output.stat().st_size,
        "steps_done": trained.steps,
        **changed,
    }
    if as_json:
        print_json(result)
        return
    print_rows(
        str(result["model"]),
        {
            "written": output,
            "format": chosen,
            "size": format_bytes(output.stat().st_size),
            "steps since compilation": trained.steps,
            **(delta_rows(**changed) if changed else {}),
        },
    )
