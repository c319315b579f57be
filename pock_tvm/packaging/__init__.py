"""Write an artifact as a folder that an application takes in. Imports no tvm or torch."""

from collections.abc import Callable, Mapping
from pathlib import Path

from pock_tvm.artifact.load import Artifact, load_artifact
from pock_tvm.artifact.write import replaced_folder
from pock_tvm.errors import ArtifactError
from pock_tvm.packaging.android import write_android
from pock_tvm.packaging.apple import write_apple

__all__ = ["FORMS", "package"]

FORMS: Mapping[str, tuple[str, str, Callable[[Artifact, Path], None]]] = {
    "android": ("-android", "android-arm64", write_android),
    "apple": ("-macos", "apple-m1", write_apple),
}
"""By name: what the triple holds, a target that fits, and what writes the folder."""


def package(directory: Path, output: Path, form: str) -> dict[str, int]:
    """Write the folder; all of it or nothing.

    Args:
        directory: an artifact that was compiled for such a machine.
        output: a folder that does not exist yet, or is empty.
        form: one of ``FORMS``.

    Returns:
        The bytes of each file that was written, by name.

    Raises:
        ArtifactError: the artifact is damaged or for another kind of machine, or the folder exists.
        BuildError: zig could not link.
    """
    system, target, write = FORMS[form]
    artifact = load_artifact(directory)
    if system not in str(artifact.description.tvm_options.get("mtriple")):
        raise ArtifactError(
            f"{artifact.directory} was compiled for {artifact.description.target!r}, not for "
            f"{form}; compile it with --target {target}"
        )
    final = output.absolute()
    if not final.parent.is_dir():
        raise ArtifactError(f"cannot write {final}: the folder {final.parent} does not exist")
    if final.is_symlink() or (final.exists() and not (final.is_dir() and not any(final.iterdir()))):
        raise ArtifactError(f"{final} exists; remove it, or choose another place")
    with replaced_folder(final) as folder:
        write(artifact, folder)
    paths = (path for path in sorted(final.rglob("*")) if path.is_file())
    return {path.relative_to(final).as_posix(): path.stat().st_size for path in paths}
