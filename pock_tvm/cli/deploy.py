"""``pock deploy``: copy an artifact to a device and prove that it trains there."""

from pathlib import Path
from typing import Any

import click

from pock_tvm.cli.options import artifact_argument, json_option
from pock_tvm.cli.output import format_bytes, format_seconds, print_json, print_rows
from pock_tvm.cli.places import place_argument, runner_option, ssh_config_option
from pock_tvm.cli.progress import ProgressLine


@click.command("deploy")
@artifact_argument
@place_argument
@click.option(
    "--reference",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="An artifact of the same model for this machine: it computes the right losses.",
)
@click.option("--self-test/--no-self-test", default=True, help="Run two steps there; the default.")
@runner_option
@ssh_config_option
@json_option
def deploy_command(*, directory: Path, as_json: bool, **arguments: Any) -> None:
    """Copy the artifact in DIRECTORY to the device at URL, and run two steps there.

    URL is ssh://user@host[:port]/path, adb://serial/path or file:///path.

    Only what changed is sent, and an interrupted copy goes on where it stopped. The device's kind
    and free space are asked first. The losses of the test are compared with those that this
    machine computes: with --reference, or with the executable itself, under qemu where needed.

    \b
    $ pock deploy net ssh://pi@raspberrypi/home/pi/net
    ssh://pi@raspberrypi/home/pi/net
      sent       manifest.json, pock_train, ...
      bytes      14.1 MiB of 14.1 MiB
    self-test
      losses     6.9078 6.9051
      expected   6.9078 6.9051, by qemu-aarch64
      a step     512.20 ms on 4 threads
      memory     61.3 MiB
    """
    result = deploy(directory, **arguments)
    if as_json:
        print_json(result)
        return
    print_rows(
        result["place"],
        {
            "sent": ", ".join(result["sent"]) or "nothing: all of it is there",
            "bytes": f"{format_bytes(result['sent_bytes'])} of "
            f"{format_bytes(result['total_bytes'])}",
        },
    )
    test = result["self_test"]
    if test is None:
        return
    print_rows(
        "self-test",
        {
            "losses": " ".join(f"{loss:.4f}" for loss in test["losses"]),
            "expected": f"unknown: {test['expected_from']}"
            if test["expected"] is None
            else " ".join(f"{loss:.4f}" for loss in test["expected"])
            + f", by {test['expected_from']}",
            "a step": f"{format_seconds(test['step_ms'] / 1e3)} on {test['threads']} threads",
            "memory": format_bytes(test["peak_bytes"]),
        },
    )


def deploy(directory: Path, *, place: Any, **options: Any) -> dict[str, Any]:
    """Copy and test; return what was done."""
    from dataclasses import asdict

    from pock_tvm.deploy import deploy as copy_artifact

    with ProgressLine() as line:
        copied = copy_artifact(directory, place, progress=line, **options)
    return {"place": str(place), **asdict(copied)}
