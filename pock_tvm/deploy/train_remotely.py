"""Train on a device where an artifact was deployed, and bring the checkpoint back."""

import contextlib
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pock_tvm.artifact.checkpoint import read_checkpoint
from pock_tvm.artifact.load import Artifact, file_sha256
from pock_tvm.deploy.connection import Connection, run_in_folder
from pock_tvm.deploy.copy_artifact import artifact_files
from pock_tvm.deploy.send_files import Progress, outgoing, send_files
from pock_tvm.deploy.survey import check_space, survey
from pock_tvm.errors import DeployError, PockError

DATA, START, RESULT = "train.pockdata", "start.ckpt", "result.ckpt"
_FETCH = 'cat "$1/$2"'
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class RemoteRun:
    """What a run on the device did."""

    losses: tuple[float, ...]
    step: int
    """Optimizer steps since the artifact was compiled."""
    step_ms: float
    peak_bytes: int
    sent_bytes: int


def train_remotely(
    artifact: Artifact,
    connection: Connection,
    *,
    data: Path,
    checkpoint: Path,
    options: Sequence[str],
    resume: bool = False,
    runner: Sequence[str] = (),
    copied: Progress = lambda name, done, total: None,
    stepped: Callable[[int, float], None] = lambda step, loss: None,
) -> RemoteRun:
    """Send the samples, train, fetch the checkpoint; ``checkpoint`` changes only when all is well.

    Args:
        artifact: the one that was deployed.
        connection: to where it was deployed.
        data: a ``.pockdata`` file.
        checkpoint: where to write the trained state, and with ``resume`` where to go on from.
        options: of ``pock_train train``: steps, rate, schedule, threads.
        resume: go on from ``checkpoint`` if it exists.
        runner: see :func:`~pock_tvm.deploy.deploy`.
        copied: called while the samples are copied.
        stepped: called with each step's number and loss as it is done.

    Raises:
        DeployError: the artifact is not there, the device fails, or the connection breaks.
    """
    names = [*artifact_files(artifact), DATA, START]
    found = survey(connection, names)
    manifest = found.files.get("manifest.json")
    if not manifest or manifest.sha256 != file_sha256(artifact.directory / "manifest.json"):
        raise DeployError(
            f"{connection.place} does not hold this artifact: "
            f"pock deploy {artifact.directory} {connection.place}"
        )
    paths = {DATA: data}
    words = ["--data", DATA, "--checkpoint", RESULT, *options]
    if resume and checkpoint.exists():
        read_checkpoint(checkpoint)
        paths[START] = checkpoint
        words += ["--resume", START]
    files = outgoing(paths, found.files)
    check_space(found, sum(f.missing for f in files), str(connection.place))
    sent_bytes = send_files(connection, files, copied)
    losses, summary = _follow(connection, runner, words, stepped)
    _fetch(connection, checkpoint)
    return RemoteRun(
        losses=tuple(losses),
        step=read_checkpoint(checkpoint).step,
        step_ms=float(summary["step_ms"]),
        peak_bytes=int(summary["peak_bytes"]),
        sent_bytes=sent_bytes,
    )


def _follow(
    connection: Connection,
    runner: Sequence[str],
    words: Sequence[str],
    stepped: Callable[[int, float], None],
) -> tuple[list[float], dict[str, Any]]:
    """Run ``pock_train`` and read its lines as they come."""
    given = ("train", "--weights", "weights.safetensors", *words)
    script, *arguments = run_in_folder(runner, *given)
    process = connection.start(script, connection.place.path, *arguments)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.close()
    complaints: list[bytes] = []
    listener = threading.Thread(target=_drain, args=(process.stderr, complaints), daemon=True)
    listener.start()  # a full pipe of errors would stop the run
    losses: list[float] = []
    summary: dict[str, Any] = {}
    try:
        for raw in process.stdout:
            line = raw.decode(errors="replace").split()
            with contextlib.suppress(ValueError, IndexError):
                if line[0] == "step":
                    losses.append(float(line[3]))
                    stepped(int(line[1]), losses[-1])
                elif raw.startswith(b"{"):
                    summary = json.loads(raw)
    except BaseException:
        process.kill()  # pock_train ends with its next line, which nobody takes any more
        raise
    finally:
        code = process.wait()
        listener.join()
        process.stdout.close()
        process.stderr.close()
    if code:
        raise DeployError(connection.complaint(code, b"".join(complaints)))
    if "step_ms" not in summary:
        raise DeployError(f"{connection.place}: the run ended without its summary")
    return losses, summary


def _drain(stream: IO[bytes], into: list[bytes]) -> None:
    into.extend(stream)


def _fetch(connection: Connection, checkpoint: Path) -> None:
    """Bring the result back: to a new file, which is checked, then renamed."""
    process = connection.start(_FETCH, connection.place.path, RESULT)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.stdin = None
    fresh = checkpoint.with_name(f"{checkpoint.name}.partial")
    try:
        with fresh.open("wb") as file:
            while chunk := process.stdout.read(_CHUNK_BYTES):
                file.write(chunk)
        _, errors = process.communicate()
        if process.returncode:
            raise DeployError(connection.complaint(process.returncode, errors))
        read_checkpoint(fresh)
        fresh.replace(checkpoint)
    except OSError as error:
        raise DeployError(f"cannot write {checkpoint}: {error.strerror}") from None
    except PockError as error:
        raise DeployError(
            f"the checkpoint did not arrive ({error}); it lies at {connection.place}/{RESULT}"
        ) from None
    finally:
        fresh.unlink(missing_ok=True)
        if process.poll() is None:
            process.kill()
            process.communicate()
