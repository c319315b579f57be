"""A Swift package: the library as an xcframework with its header and module map, a Swift class."""

import plistlib
import shutil
import tempfile
from pathlib import Path

from pock_tvm.artifact.link import LIBRARY_SOURCES, RUNTIME, archive, compile_object
from pock_tvm.artifact.load import Artifact

_SOURCES = RUNTIME / "apple"
_TRIPLE = "aarch64-macos.11.0"
_LIBRARY = "libpock_model.a"
_INFORMATION = {
    "AvailableLibraries": [
        {
            "LibraryIdentifier": "macos-arm64",
            "LibraryPath": _LIBRARY,
            "HeadersPath": "Headers",
            "SupportedArchitectures": ["arm64"],
            "SupportedPlatform": "macos",
        }
    ],
    "CFBundlePackageType": "XFWK",
    "XCFrameworkFormatVersion": "1.0",
}


def write_apple(artifact: Artifact, folder: Path) -> None:
    """Make a static library of the artifact's object and sources; copy the rest."""
    framework = folder / "CPockModel.xcframework"
    headers, swift = framework / "macos-arm64" / "Headers", folder / "Sources" / "PockModel"
    model = swift / "pock_model"
    for place in (headers, model):
        place.mkdir(parents=True)
    _archive(artifact, headers.parent / _LIBRARY)
    with (framework / "Info.plist").open("wb") as file:
        plistlib.dump(_INFORMATION, file)
    for path in (RUNTIME / "pock.h", _SOURCES / "module.modulemap"):
        shutil.copyfile(path, headers / path.name)
    shutil.copyfile(_SOURCES / "Package.swift", folder / "Package.swift")
    shutil.copyfile(_SOURCES / "PockModel.swift", swift / "PockModel.swift")
    for path in (artifact.weights, artifact.directory / "manifest.json"):
        shutil.copyfile(path, model / path.name)


def _archive(artifact: Artifact, output: Path) -> None:
    runtime = artifact.directory / "runtime"
    names = [*LIBRARY_SOURCES, "pock_artifact.c"]
    if (runtime / "pock_metal.c").exists():
        names.append("pock_metal.c")
    with tempfile.TemporaryDirectory() as scratch:
        objects = [artifact.directory / "step.o"]
        for name in names:
            objects.append(Path(scratch) / f"{Path(name).stem}.o")
            objects[-1].write_bytes(compile_object(runtime / name, _TRIPLE))
        archive(objects, output, "darwin")
