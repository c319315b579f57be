"""``pock apply-delta``: put what was learned on the model that it was learned from."""

from pathlib import Path

import click

from pock_tvm.cli.deltas import delta_rows
from pock_tvm.cli.options import json_option
from pock_tvm.cli.output import format_bytes, print_json, print_rows

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("apply-delta")
@click.argument("base", type=click.Path(path_type=Path))
@click.argument("delta", type=_FILE)
@click.option("-o", "--output", type=_FILE, required=True, help="The file to write.")
@json_option
def apply_delta_command(*, base: Path, delta: Path, output: Path, as_json: bool) -> None:
    """Write BASE with what DELTA changes, in the format of BASE.

    BASE is the untrained model: a .safetensors file, a PyTorch state dict (.pt, .pth, .bin), an
    .onnx file, or the folder of an artifact, which gives a checkpoint of it. A delta that was made
    for other weights is refused.

    \b
    $ pock apply-delta original.pt net.delta -o tuned.pt
    mobilenet_v2
      written          tuned.pt
      tensors changed  106 of 262
      values changed   1,298,056
      steps            12
      size             13.6 MiB
      changed          5.0 MiB
      dense            54 tensors, 5.0 MiB
    """
    from pock_tvm.export import apply_delta

    found = apply_delta(base, delta, output)
    result = {
        "model": found.model,
        "output": str(output),
        "tensors_changed": len(found.changes),
        "tensors": len(found.base_tensors),
        "values_changed": found.changed_values,
        "changed_bytes": found.nbytes,
        "changes": found.by_kind(),
        "steps_done": found.steps,
        "bytes": output.stat().st_size,
    }
    if as_json:
        print_json(result)
        return
    print_rows(
        found.model,
        {
            "written": output,
            "tensors changed": f"{len(found.changes)} of {len(found.base_tensors)}",
            "values changed": f"{found.changed_values:,}",
            "steps": found.steps,
            "size": format_bytes(output.stat().st_size),
            **delta_rows(found.nbytes, found.by_kind()),
        },
    )
