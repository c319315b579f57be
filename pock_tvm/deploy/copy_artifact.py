"""Copy an artifact to a device and prove that it trains there."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pock_tvm.artifact.load import Artifact, load_artifact
from pock_tvm.deploy.connection import Connection
from pock_tvm.deploy.place import Place
from pock_tvm.deploy.self_test import (
    SAMPLES,
    SelfTest,
    expected_losses,
    run_self_test,
    write_samples,
)
from pock_tvm.deploy.send_files import Progress, outgoing, send_files
from pock_tvm.deploy.survey import check_machine, check_space, survey
from pock_tvm.errors import DeployError


@dataclass(frozen=True, kw_only=True)
class Copied:
    """What a deployment did."""

    sent: tuple[str, ...]
    """Names of the files that the device lacked."""
    sent_bytes: int
    resumed_bytes: int
    """Bytes that an interrupted copy had brought there before."""
    total_bytes: int
    self_test: SelfTest | None


def deploy(
    directory: Path,
    place: Place,
    *,
    runner: Sequence[str] = (),
    reference: Path | None = None,
    self_test: bool = True,
    ssh_config: Path | None = None,
    progress: Progress = lambda name, done, total: None,
) -> Copied:
    """Copy what changed, then run one test there.

    Args:
        directory: an artifact with an executable.
        place: where its folder shall lie.
        runner: a command of the device that runs executables, such as an emulator; it stands for
            the architecture, which is not asked for then.
        reference: an artifact of the same model for this machine, to compute the right losses.
        self_test: whether to run it.
        ssh_config: of the OpenSSH client, instead of the user's own.
        progress: called while files are copied.

    Raises:
        ArtifactError: the artifact is damaged.
        DeployError: the device is of another kind, has no room, cannot be written or reached, or
            computes something else; says which.
    """
    artifact = load_artifact(directory)
    connection = Connection(place, ssh_config)
    with tempfile.TemporaryDirectory() as folder:
        samples = Path(folder) / SAMPLES
        paths = artifact_files(artifact)
        if self_test:
            write_samples(samples, artifact.description)
            paths[SAMPLES] = samples
        found = survey(connection, paths)
        if not runner:
            options = artifact.description.tvm_options
            check_machine(found, artifact.description.target, options, str(place))
        files = outgoing(paths, found.files)
        check_space(found, sum(file.missing for file in files), str(place))
        sent_bytes = send_files(connection, files, progress)
        proof = None
        if self_test:
            progress("self-test", 0, 1)
            expected = expected_losses(artifact, reference, samples)
            proof = run_self_test(connection, runner, *expected)
        return Copied(
            sent=tuple(file.name for file in files),
            sent_bytes=sent_bytes,
            resumed_bytes=sum(file.start for file in files),
            total_bytes=sum(path.stat().st_size for path in paths.values()),
            self_test=proof,
        )


def artifact_files(artifact: Artifact) -> dict[str, Path]:
    """Return what a device needs, the manifest last: with it there, all is there.

    Raises:
        DeployError: the artifact has no executable.
    """
    if artifact.executable is None:
        raise DeployError(
            f"{artifact.directory} holds no pock_train: compile it with --executable, or for "
            "another target than host"
        )
    return {
        "pock_train": artifact.executable,
        "weights.safetensors": artifact.weights,
        "manifest.json": artifact.directory / "manifest.json",
    }
