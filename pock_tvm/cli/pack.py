"""``pock pack``: samples as the file that the standalone program maps on the device."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pock_tvm.cli.options import column_options, json_option
from pock_tvm.cli.output import format_bytes, print_json, print_rows
from pock_tvm.cli.progress import ProgressLine

if TYPE_CHECKING:
    from pock_tvm.samples.columns import Columns


@click.command("pack")
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The file to write, such as data.pock.",
)
@click.option(
    "--for",
    "directory",
    type=click.Path(path_type=Path),
    required=True,
    help="The artifact that will read it: it says what a sample is.",
)
@column_options
@click.option("--unlabelled", is_flag=True, help="For prediction: look for no labels.")
@json_option
def pack_command(*, as_json: bool, **arguments: Any) -> None:
    """Pack DATA, whatever `pock train --data` takes, for `pock_train` on a device.

    Samples are read, processed and written some at a time; where the file is used, one batch at a
    time is read. It fits every artifact whose model takes the same inputs and labels.

    \b
    $ pock pack pictures -o data.pock --for net
    data.pock, 512 samples for mobilenet_v2
      size     294.0 MiB
      classes  cat, dog
    """
    with ProgressLine() as progress:
        result = pack(progress=progress, **arguments)
    if as_json:
        print_json(result)
        return
    names = result["classes"]
    print_rows(
        f"{result['output']}, {result['samples']} samples for {result['model']}",
        {
            "size": format_bytes(result["bytes"]),
            **({"classes": ", ".join(names)} if names else {}),
        },
    )


def pack(
    *,
    data: Path,
    output: Path,
    directory: Path,
    columns: "Columns | None" = None,
    unlabelled: bool,
    progress: ProgressLine,
) -> dict[str, Any]:
    """Write the packed file; whatever fails, what stood there stays."""
    from pock_tvm.artifact import load_artifact
    from pock_tvm.artifact.dataset_file import rows_of_a_piece, write_pieces
    from pock_tvm.artifact.sample_form import SampleForm
    from pock_tvm.cli.samples import source_for

    description = load_artifact(directory).description
    form = SampleForm.of(description)
    source = source_for(data, description, columns, labelled=not unlabelled)
    total = source.count or 0
    progress("pack", 0, total)
    count = write_pieces(
        output,
        description,
        source.checked(form, rows_of_a_piece(description), labelled=not unlabelled),
        lambda done: progress("pack", done, max(done, total)),
    )
    return {
        "output": str(output),
        "model": description.model,
        "samples": count,
        "bytes": output.stat().st_size,
        "classes": list(source.classes),
    }
