"""The devices that a verb measures kernels on: those of a tracker, or this machine."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pock_tvm.artifact.load import Artifact
    from pock_tvm.targets import TargetSpec
    from pock_tvm.tuning.device import Device


def check_rpc(rpc: str | None, key: str | None) -> None:
    """Refuse one option without the other."""
    if (rpc is None) != (key is None):
        raise click.UsageError("--rpc and --key go together: a tracker, and a kind of its devices")


def tuned_spec(artifact: "Artifact", *, is_remote: bool) -> "TargetSpec":
    """Return what an artifact was compiled for, if its kernels can be measured.

    Raises:
        TuningError: they run on a GPU, or on a machine that is not at hand.
    """
    from pock_tvm.errors import TuningError
    from pock_tvm.targets import get_target
    from pock_tvm.targets.precision import PRECISIONS, with_precision

    about = artifact.description
    (precision,) = (p for p in PRECISIONS if p == about.precision)
    spec = with_precision(get_target(about.target), precision)
    if spec.device is not None or not spec.has_system:
        what = "a GPU" if spec.device is not None else "no operating system"
        raise TuningError(
            f"{artifact.directory} is for {spec.name}, {what}; kernels of processors are measured"
        )
    if not is_remote and not spec.is_at_hand:
        raise TuningError(
            f"{artifact.directory} was compiled for {spec.name}; name a tracker that has one by "
            f"--rpc HOST:PORT --key {spec.name}"
        )
    return spec


@contextlib.contextmanager
def devices_of(rpc: str | None, key: str | None, threads: int) -> "Iterator[list[Device]]":
    """Yield a tracker's free devices of a key, or this machine."""
    from pock_tvm.tuning.device import local_device, tracker_devices

    if rpc is not None and key is not None:
        yield tracker_devices(rpc, key, threads)
        return
    with local_device(threads) as device:
        yield [device]
