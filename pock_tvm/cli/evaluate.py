"""``pock evaluate``: loss and accuracy of an artifact on this machine."""

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

if TYPE_CHECKING:
    from pock_tvm.samples.columns import Columns


@click.command("evaluate")
@artifact_argument
@data_option
@trained_option
@threads_option
@json_option
def evaluate_command(*, directory: Path, as_json: bool, **arguments: Any) -> None:
    """Measure the artifact in DIRECTORY on labelled samples.

    \b
    $ pock evaluate net --data photos.npz --checkpoint net.ckpt
    mobilenet_v2, 8 samples
      loss      6.8893
      accuracy  12.50%
    memory
      ...
    time
      a batch  53.42 ms
      in all   213.67 ms
    """
    result = evaluate(directory, **arguments)
    if as_json:
        print_json(result)
        return
    accuracy = result["accuracy"]
    print_rows(
        f"{result['model']}, {result['samples']} samples",
        {
            "loss": f"{result['loss']:.4f}",
            "accuracy": "-" if accuracy is None else f"{accuracy:.2%}",
        },
    )
    print_rows("memory", memory_rows(result["memory"]))
    print_rows(
        "time",
        {
            "a batch": format_seconds(result["batch_ms"] / 1e3),
            "in all": format_seconds(result["evaluate_s"]),
        },
    )


def evaluate(
    directory: Path,
    *,
    data: Path,
    columns: "Columns | None" = None,
    checkpoint: Path | None,
    threads: int | None,
) -> dict[str, Any]:
    """Return the measures of an artifact on a data file."""
    from pock_tvm.cli.samples import read_samples
    from pock_tvm.trainer import Trainer

    with Trainer(directory, threads) as trainer:
        if checkpoint:
            trainer.load_checkpoint(checkpoint)
        inputs, labels = read_samples(data, trainer.description, columns)
        started = time.perf_counter()
        found = trainer.evaluate(inputs, labels)
        spent = time.perf_counter() - started
        batches = -(-found.samples // trainer.batch)
        return {
            "model": trainer.description.model,
            "loss": found.loss,
            "accuracy": found.accuracy,
            "samples": found.samples,
            "steps_done": trainer.steps_done,
            "batch_ms": round(spent / batches * 1e3, 4),
            "evaluate_s": round(spent, 6),
            "memory": memory_of(trainer.description),
        }
