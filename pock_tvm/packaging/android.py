"""A folder as an Android archive (AAR) has it: libraries, a Java class, a manifest, assets."""

import shutil
import tempfile
from pathlib import Path

from pock_tvm.artifact.link import RUNTIME
from pock_tvm.artifact.link_shared import link_for_android
from pock_tvm.artifact.load import Artifact
from pock_tvm.errors import ArtifactError

_SOURCES = RUNTIME / "android"
_TRIPLE = "aarch64-linux-musl"  # whose headers stand for Android's: see pock_tvm.artifact.bionic


def write_android(artifact: Artifact, folder: Path) -> None:
    """Copy the library and the weights; compile the Java class's C half against the library."""
    if artifact.library is None:
        raise ArtifactError(
            f"{artifact.directory} holds no libpock_model.so; compile it without --no-library"
        )
    libraries, java, assets, source = (
        folder / name for name in ("jni/arm64-v8a", "java/org/pock", "assets/pock_model", "c")
    )
    for place in (libraries, java, assets, source):
        place.mkdir(parents=True)
    model = shutil.copyfile(artifact.library, libraries / "libpock_model.so")
    _link_wrapper(model, libraries / "libpock_jni.so")
    shutil.copyfile(_SOURCES / "AndroidManifest.xml", folder / "AndroidManifest.xml")
    shutil.copyfile(_SOURCES / "PockModel.java", java / "PockModel.java")
    for path in (artifact.weights, artifact.directory / "manifest.json"):
        shutil.copyfile(path, assets / path.name)
    for path in (_SOURCES / "pock_jni.c", RUNTIME / "pock.h"):
        shutil.copyfile(path, source / path.name)


def _link_wrapper(model: Path, output: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        exports = Path(scratch) / "exports.map"
        exports.write_text("{ global: Java_org_pock_PockModel_*; local: *; };\n")
        wrapper = _SOURCES / "pock_jni.c"
        link_for_android([wrapper], [model], exports, output, _TRIPLE, heap=True)
