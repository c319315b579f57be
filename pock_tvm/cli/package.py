"""``pock package``: an artifact as a folder that an application for phones or Macs takes in."""

from pathlib import Path

import click

from pock_tvm.cli.options import artifact_argument, json_option
from pock_tvm.cli.output import format_bytes, print_json, print_rows
from pock_tvm.cli.progress import ProgressLine


@click.command("package")
@artifact_argument
@click.option(
    "--for", "form", type=click.Choice(["android", "apple"]), required=True, help="The system."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder to write; it must not exist yet.",
)
@json_option
def package_command(*, directory: Path, form: str, output: Path, as_json: bool) -> None:
    """Write the artifact in DIRECTORY as a folder for an application.

    android: the layout of an AAR, with the library, a Java class over it, weights as assets.
    apple: a Swift package for macOS, with a static library, its C header, a Swift class.

    \b
    $ pock package net --for android -o net-android
    net-android
      AndroidManifest.xml                       176 B
      assets/pock_model/manifest.json           33.5 KiB
      assets/pock_model/weights.safetensors     13.6 MiB
      c/pock.h                                  9.8 KiB
      c/pock_jni.c                              6.0 KiB
      java/org/pock/PockModel.java              5.8 KiB
      jni/arm64-v8a/libpock_jni.so              9.4 KiB
      jni/arm64-v8a/libpock_model.so            402.6 KiB
    """
    from pock_tvm.packaging import package

    with ProgressLine() as progress:
        progress("package", 0, 1)
        files = package(directory, output, form)
        progress("package", 1, 1)
    if as_json:
        print_json({"output": str(output), "form": form, "files": files})
        return
    print_rows(str(output), {name: format_bytes(size) for name, size in files.items()})
