"""``pock predict``: the model's outputs for the samples of a file."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pock_tvm.cli.memory import memory_of, memory_rows
from pock_tvm.cli.options import (
    artifact_argument,
    data_option,
    json_option,
    threads_option,
    trained_option,
)
from pock_tvm.cli.output import format_seconds, print_json, print_rows
from pock_tvm.errors import PockError

if TYPE_CHECKING:
    from pock_tvm.samples.columns import Columns


@click.command("predict")
@artifact_argument
@data_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The .npz to write: `logits`, and `predicted` where the loss is cross_entropy.",
)
@trained_option
@threads_option
@json_option
def predict_command(*, directory: Path, as_json: bool, **arguments: Any) -> None:
    """Run the model in DIRECTORY on samples; labels in the file are not looked at.

    \b
    $ pock predict net --data photos.npz --checkpoint net.ckpt -o out.npz
    mobilenet_v2, 8 samples
      written  out.npz
      logits   8 x 1000
    memory
      ...
    time
      a batch  74.18 ms
      in all   296.72 ms
    """
    result = predict(directory, **arguments)
    if as_json:
        print_json(result)
        return
    print_rows(
        f"{result['model']}, {result['samples']} samples",
        {
            "written": result["output"],
            "logits": " x ".join(map(str, result["shape"])),
        },
    )
    print_rows("memory", memory_rows(result["memory"]))
    print_rows(
        "time",
        {
            "a batch": format_seconds(result["batch_ms"] / 1e3),
            "in all": format_seconds(result["predict_s"]),
        },
    )


def predict(
    directory: Path,
    *,
    data: Path,
    columns: "Columns | None" = None,
    output: Path,
    checkpoint: Path | None,
    threads: int | None,
) -> dict[str, Any]:
    """Write the outputs for a data file; return what was written and how long it took."""
    from pock_tvm.cli.samples import read_inputs
    from pock_tvm.trainer import Trainer

    with Trainer(directory, threads) as trainer:
        if checkpoint:
            trainer.load_checkpoint(checkpoint)
        inputs = read_inputs(data, trainer.description, columns)
        started = time.perf_counter()
        logits = trainer.predict(inputs)
        spent = time.perf_counter() - started
        arrays = {"logits": logits}
        if trainer.description.loss["name"] == "cross_entropy":
            arrays["predicted"] = logits.argmax(-1)
        _write_arrays(output, arrays)
        return {
            "model": trainer.description.model,
            "output": str(output),
            "samples": len(logits),
            "shape": list(logits.shape),
            "batch_ms": round(spent / -(-len(logits) // trainer.batch) * 1e3, 4),
            "predict_s": round(spent, 6),
            "memory": memory_of(trainer.description),
        }


def _write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """Write beside the final place, then rename: a failure leaves what stood there."""
    import numpy as np

    fresh = path.with_name(f"{path.name}.partial")
    try:
        with fresh.open("wb") as file:
            np.savez(file, **arrays)
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise PockError(f"cannot write {path}: {error.strerror}") from error
