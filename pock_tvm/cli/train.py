"""``pock train``: train an artifact on this machine. Imports neither tvm nor torch."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from pock_tvm.cli.memory import memory_of, memory_rows
from pock_tvm.cli.options import (
    artifact_argument,
    augment_option,
    data_option,
    json_option,
    threads_option,
)
from pock_tvm.cli.output import format_seconds, print_json, print_rows
from pock_tvm.cli.progress import ProgressLine

if TYPE_CHECKING:
    from pock_tvm.samples.columns import Columns
    from pock_tvm.trainer import Trainer


@click.command("train")
@artifact_argument
@data_option
@click.option(
    "--lr", "learning_rate", type=click.FloatRange(0), required=True, help="Learning rate."
)
@click.option(
    "--schedule",
    default="constant",
    show_default=True,
    help="How the rate changes: constant, linear, cosine, polynomial, step:every=N, one-cycle; "
    "with options, as in cosine:warmup=100,end=0.1.",
)
@click.option("--epochs", type=click.FloatRange(0, min_open=True), help="Default 1.")
@click.option("--steps", type=click.IntRange(1), help="Instead of --epochs; resumed ones count.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of order and dropout."
)
@augment_option
@threads_option
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the trained state here at the end, and when interrupted.",
)
@click.option("--checkpoint-every", type=click.IntRange(1), help="Write it every N steps too.")
@click.option("--resume", is_flag=True, help="Go on from --checkpoint if it exists.")
@json_option
def train_command(*, directory: Path, as_json: bool, **arguments: Any) -> None:
    """Train the artifact in DIRECTORY on shuffled samples.

    Each sample is drawn once before any is drawn again. The order depends on the seed and the
    position only, and a checkpoint holds both: a resumed run goes on where it stopped.

    \b
    $ pock train net --data photos.npz --lr 0.01 --epochs 3 --checkpoint net.ckpt
    mobilenet_v2, 12 steps
      first loss               6.9078
      last loss                6.8951
      steps since compilation  12
      checkpoint               net.ckpt
    memory
      frozen weights         8.4 MiB
      trainable weights      5.0 MiB
      ...
      total                  60.7 MiB
    time
      a step  148.71 ms
      in all  1.8 s
    """
    if arguments["epochs"] and arguments["steps"]:
        raise click.UsageError("give either --epochs or --steps")
    if arguments["checkpoint"] is None and (arguments["resume"] or arguments["checkpoint_every"]):
        raise click.UsageError("--resume and --checkpoint-every need --checkpoint")

    from pock_tvm.augmentation import Augmentation
    from pock_tvm.learning_rate import make_schedule
    from pock_tvm.trainer import Trainer

    arguments["schedule"] = make_schedule(arguments["schedule"])
    if arguments["augment"] is not None:
        arguments["augment"] = Augmentation.parse(arguments["augment"])
    with Trainer(directory, arguments.pop("threads")) as trainer, ProgressLine() as progress:
        result = train(trainer, progress=progress, **arguments)
        memory = memory_of(trainer.description)
    if as_json:
        print_json({**result, "memory": memory})
        return
    print_rows(
        f"{trainer.description.model}, {result['steps']} steps",
        {
            "first loss": f"{result['first_loss']:.4f}" if result["losses"] else "-",
            "last loss": f"{result['last_loss']:.4f}" if result["losses"] else "-",
            "steps since compilation": result["steps_done"],
            "checkpoint": result["checkpoint"] or "none: the trained weights are not kept",
        },
    )
    print_rows("memory", memory_rows(memory))
    print_rows(
        "time",
        {
            "a step": format_seconds(result["step_ms"] / 1e3),
            "in all": format_seconds(result["train_s"]),
        },
    )


def train(
    trainer: "Trainer",
    *,
    data: Path,
    columns: "Columns | None" = None,
    checkpoint: Path | None,
    steps: int | None,
    epochs: float | None,
    progress: ProgressLine,
    **options: Any,
) -> dict[str, Any]:
    """Train on a data file; on an interrupt finish the step, write the checkpoint, then stop."""
    from pock_tvm.artifact.check_training import check_training
    from pock_tvm.artifact.sample_form import SampleForm
    from pock_tvm.cli.samples import read_samples

    progress("read", 0, 1)
    inputs, labels = read_samples(data, trainer.description, columns)
    check_training(
        str(data),
        SampleForm.of(trainer.description),
        len(next(iter(inputs.values()))),
        labels,
        trainer.samples_per_step,
    )
    started = time.perf_counter()
    with _interrupt_flag() as interrupted:

        def after_step(done: int, total: int, loss: float) -> None:
            rate = trainer.history[-1].learning_rate
            progress("train", done, total, f"loss {loss:.4f}, rate {rate:.3g}")
            if interrupted:
                raise KeyboardInterrupt(_save_interrupted(trainer, checkpoint, done, total))

        losses = trainer.fit(
            inputs,
            labels,
            epochs=None if steps else epochs or 1,
            steps=steps,
            checkpoint=checkpoint,
            progress=after_step,
            **options,
        )
    spent = time.perf_counter() - started
    return {
        "steps": len(losses),
        "steps_done": trainer.steps_done,
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
        "losses": losses,
        "learning_rates": [record.learning_rate for record in trainer.history],
        "step_ms": round(spent / max(len(losses), 1) * 1e3, 4),
        "train_s": round(spent, 6),
        "checkpoint": str(checkpoint) if checkpoint else None,
    }


def _save_interrupted(trainer: "Trainer", checkpoint: Path | None, done: int, total: int) -> str:
    if checkpoint is None:
        return f"interrupted after step {done} of {total}; there was no --checkpoint to write"
    trainer.save_checkpoint(checkpoint)
    return f"interrupted after step {done} of {total}; go on with --resume from {checkpoint}"


@contextmanager
def _interrupt_flag() -> Iterator[list[int]]:
    """Collect the first Ctrl-C in a list, so that a step is not torn; the second one is raised."""
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)
