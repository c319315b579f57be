"""``pock tune``: find out how the kernels of a training step run faster on one kind of core."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pock_tvm.cli.options import artifact_argument, json_option, key_option, rpc_option
from pock_tvm.cli.output import format_seconds, print_json, print_rows, print_table
from pock_tvm.cli.progress import ProgressLine
from pock_tvm.cli.rpc_devices import check_rpc, devices_of, tuned_spec

if TYPE_CHECKING:
    from pock_tvm.tuning.run_tuning import Tuning


@click.command("tune")
@artifact_argument
@click.option(
    "--trials",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    help="In all, those of an interrupted run among them.",
)
@rpc_option
@key_option
@click.option(
    "--records",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the records. Default: the user's own, where every compilation looks.",
)
@click.option(
    "--least-share",
    type=click.FloatRange(0, 1),
    default=0.005,
    show_default=True,
    help="Kernels that take less of a step are left as they are.",
)
@json_option
def tune_command(
    *,
    directory: Path,
    trials: int,
    rpc: str | None,
    key: str | None,
    records: Path | None,
    least_share: float,
    as_json: bool,
) -> None:
    """Tune the matrix products and convolutions of the artifact in DIRECTORY.

    Every kernel of a training step is timed; those that take the longest are cut in other ways:
    register tiles, panels, tasks, blocks of the sum, copies. What computes the same and is faster,
    beyond the noise, in caches and out of them, is recorded for the core; the next `pock compile`
    for it uses the records. Stop at any time: the same command goes on. Nothing else should run.

    \b
    $ pock tune net --trials 400
    mobilenet_v2 on host, core znver5
      trials                         400
      kernels of a step, before      63.02 ms
      saved, by the trials           1.91 ms
      records                        /home/me/.local/share/pock_tvm/records/znver5.json
    slowest problems
      kernel                       calls  share  trials  faster by
      conv2d_weight_grad_03e0e104      2   2.6%      12      21.3%
    """
    check_rpc(rpc, key)
    from pock_tvm.artifact.load import load_artifact
    from pock_tvm.errors import RecordError
    from pock_tvm.record_files import record_file, user_folder

    artifact = load_artifact(directory)
    spec = tuned_spec(artifact, is_remote=rpc is not None)
    path = record_file(records or user_folder(), spec.core)
    if path is None:
        raise RecordError(f"the core {spec.core[:40]!r} of {spec.name} is no name of a file")
    from pock_tvm.tuning.run_tuning import run_tuning

    with ProgressLine() as progress, devices_of(rpc, key, spec.cores) as devices:
        found = run_tuning(
            artifact,
            spec,
            devices,
            trials=trials,
            records=path,
            least_share=least_share,
            is_here=rpc is None,
            progress=progress,
        )
        names = [device.name for device in devices]
    about = artifact.description
    if as_json:
        print_json(
            {
                "model": about.model,
                "target": about.target,
                "core": spec.core,
                "devices": names,
                "trials": found.trials,
                "kernels_ms": found.step_us / 1e3,
                "saved_ms": found.saved_us / 1e3,
                "records": str(found.records),
                "problems": _rows(found),
            }
        )
        return
    print_rows(
        f"{about.model} on {about.target}, core {spec.core}",
        {
            "trials": found.trials,
            **({"devices": len(names)} if rpc else {}),
            "kernels of a step, before": format_seconds(found.step_us / 1e6),
            "saved, by the trials": format_seconds(found.saved_us / 1e6),
            "records": found.records,
        },
    )
    rows = _rows(found)
    print_table(
        "slowest problems",
        ("kernel", "calls", "share", "trials", "faster by"),
        [
            (r["kernel"], r["calls"], f"{r['share']:.1%}", r["trials"], f"{r['gain']:.1%}")
            for r in rows
        ],
    )


def _rows(found: "Tuning") -> list[dict[str, Any]]:
    return [
        {
            "kernel": p.kernel,
            "problem": p.text,
            "calls": p.calls,
            "share": p.step_us / found.step_us,
            "trials": len(p.seen),
            "gain": p.gain,
        }
        for p in found.problems
    ]
