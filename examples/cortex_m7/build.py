"""Link a program for a Cortex-M7 board from an artifact, with nothing but zig.

    python -m examples.cortex_m7.build net samples.bin program.elf

``samples.bin`` holds one batch for each step: every input and the labels as they lie in memory, in
the order of the manifest. The runtime's sources and the weights come from the artifact.
"""

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
PROGRAM = ("main.c", "startup.c", "semihosting.c", "samples.S", "freestanding/string.c")
MACHINE = ("-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m7-fp64")
WARNINGS = ("-Wall", "-Wextra", "-Werror")


def build(artifact: Path, samples: Path, program: Path, options: Sequence[str] = ()) -> None:
    """Compile and link; ``options`` are further words for the compiler.

    Raises:
        RuntimeError: it failed; the message is zig's.
    """
    runtime = artifact / "runtime"
    includes = (f"-I{runtime}", f"-I{artifact}", f"-I{HERE}", f"-I{HERE / 'freestanding'}")
    sources = [*runtime.glob("*.c"), runtime / "pock_weights.S", *(HERE / p for p in PROGRAM)]
    flags = ("-std=c11", "-O2", "-g0", "-ffunction-sections", "-fdata-sections", *WARNINGS)
    link = ("-Wl,--gc-sections", f"-Wl,-T,{HERE / 'mps2_an500.ld'}")
    # zig keeps objects by their sources and options, and does not look into what they include
    digest = hashlib.sha256(samples.read_bytes()).hexdigest()
    data = (f'-DSAMPLES="{samples.absolute()}"', f"-DSAMPLES_SHA256={digest}")
    words = [*MACHINE, *flags, *includes, *data, *link, *options]
    inputs = map(str, (*sources, artifact / "step.o"))
    command = [sys.executable, "-m", "ziglang", "cc", *words, *inputs, "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())


if __name__ == "__main__":
    build(*map(Path, sys.argv[1:4]), sys.argv[4:])
