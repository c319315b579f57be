"""``pock run-remote``: train on a device, bring the checkpoint back."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pock_tvm.cli.options import (
    artifact_argument,
    augment_option,
    data_option,
    json_option,
    threads_option,
)
from pock_tvm.cli.output import format_bytes, format_seconds, print_json, print_rows
from pock_tvm.cli.places import place_argument, runner_option, ssh_config_option
from pock_tvm.cli.progress import ProgressLine

if TYPE_CHECKING:
    from pock_tvm.samples.columns import Columns


@click.command("run-remote")
@artifact_argument
@place_argument
@data_option
@click.option(
    "--lr", "learning_rate", type=click.FloatRange(0), required=True, help="Learning rate."
)
@click.option("--schedule", default="constant", show_default=True, help="As of `pock train`.")
@click.option("--epochs", type=click.FloatRange(0, min_open=True), help="Default 1.")
@click.option("--steps", type=click.IntRange(1), help="Of this run, instead of --epochs.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of order and dropout."
)
@augment_option
@threads_option
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="Write the trained state here, on this machine.",
)
@click.option("--resume", is_flag=True, help="Go on from --checkpoint if it exists.")
@runner_option
@ssh_config_option
@json_option
def run_remote_command(*, directory: Path, as_json: bool, **arguments: Any) -> None:
    """Train on the device at URL with the artifact that `pock deploy` has put there.

    The samples are sent if they changed, each step is shown as it is done, and the checkpoint
    comes back: `pock evaluate`, `pock export` and another run go on from it.

    \b
    $ pock run-remote net ssh://pi@raspberrypi/home/pi/net --data photos.npz --lr 0.01 \\
        --checkpoint net.ckpt
    ssh://pi@raspberrypi/home/pi/net, 12 steps
      first loss               6.9078
      last loss                6.8951
      steps since compilation  12
      checkpoint               net.ckpt
      a step                   512.20 ms
      memory                   61.3 MiB
    """
    if arguments["epochs"] and arguments["steps"]:
        raise click.UsageError("give either --epochs or --steps")
    result = run_remote(directory, **arguments)
    if as_json:
        print_json(result)
        return
    print_rows(
        f"{result['place']}, {len(result['losses'])} steps",
        {
            "first loss": f"{result['losses'][0]:.4f}",
            "last loss": f"{result['losses'][-1]:.4f}",
            "steps since compilation": result["step"],
            "checkpoint": result["checkpoint"],
            "a step": format_seconds(result["step_ms"] / 1e3),
            "memory": format_bytes(result["peak_bytes"]),
        },
    )


def run_remote(
    directory: Path,
    *,
    place: Any,
    data: Path,
    columns: "Columns | None" = None,
    learning_rate: float,
    schedule: str,
    epochs: float | None,
    steps: int | None,
    seed: int,
    augment: str | None,
    threads: int | None,
    checkpoint: Path,
    resume: bool,
    runner: tuple[str, ...],
    ssh_config: Path | None,
) -> dict[str, Any]:
    """Pack the samples, train there, fetch the result; return what the run did."""
    import tempfile
    from dataclasses import asdict

    from pock_tvm.artifact import load_artifact
    from pock_tvm.artifact.dataset_file import write_dataset
    from pock_tvm.artifact.picture import needed_picture
    from pock_tvm.augmentation import Augmentation
    from pock_tvm.cli.samples import read_samples
    from pock_tvm.deploy import train_remotely
    from pock_tvm.deploy.connection import Connection
    from pock_tvm.learning_rate import make_schedule

    make_schedule(schedule)  # refuses a misspelt one before anything is sent
    artifact = load_artifact(directory)
    description = artifact.description
    if augment:
        Augmentation.parse(augment)
        needed_picture(description)
    with tempfile.TemporaryDirectory() as folder, ProgressLine() as line:
        line("read", 0, 1)
        packed = Path(folder) / "packed"
        count = write_dataset(packed, description, *read_samples(data, description, columns))
        per_step = description.batch * description.accumulate
        total = steps or max(1, int(-(-(epochs or 1) * count // per_step)))
        first: list[int] = []

        def stepped(step: int, loss: float) -> None:
            first.append(step)
            line("train", step - first[0] + 1, total, f"loss {loss:.4f}")

        words = ["--steps", str(total), "--lr", repr(learning_rate), "--schedule", schedule]
        words += ["--seed", str(seed)]
        words += ["--augment", augment] if augment else []
        words += ["--threads", str(threads)] if threads else []
        run = train_remotely(
            artifact,
            Connection(place, ssh_config),
            data=packed,
            checkpoint=checkpoint,
            options=words,
            resume=resume,
            runner=runner,
            copied=line,
            stepped=stepped,
        )
    return {"place": str(place), "checkpoint": str(checkpoint), **asdict(run)}
