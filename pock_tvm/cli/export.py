"""``pock export``: the trained weights as an ordinary safetensors file."""

from pathlib import Path

import click

from pock_tvm.cli.options import artifact_argument, json_option, trained_option
from pock_tvm.cli.output import format_bytes, print_json, print_rows


@click.command("export")
@artifact_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The .safetensors to write, by the model's own names and layouts.",
)
@trained_option
@json_option
def export_command(
    *, directory: Path, output: Path, checkpoint: Path | None, as_json: bool
) -> None:
    """Write the weights of DIRECTORY back as the model that came in had them.

    \b
    $ pock export net --checkpoint net.ckpt -o net.safetensors
    mobilenet_v2
      written                  net.safetensors
      size                     13.5 MiB
      steps since compilation  12
    """
    from pock_tvm.trainer import Trainer

    with Trainer(directory, threads=1) as trainer:
        if checkpoint:
            trainer.load_checkpoint(checkpoint)
        trainer.export(output)
        result = {
            "model": trainer.description.model,
            "output": str(output),
            "bytes": output.stat().st_size,
            "steps_done": trainer.steps_done,
        }
    if as_json:
        print_json(result)
        return
    print_rows(
        str(result["model"]),
        {
            "written": output,
            "size": format_bytes(output.stat().st_size),
            "steps since compilation": result["steps_done"],
        },
    )
