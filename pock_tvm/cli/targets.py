"""``pock targets``: the machines that can be compiled for."""

import shutil
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from pock_tvm.cli.options import json_option
from pock_tvm.cli.output import format_bytes, print_json, print_rows, print_table

if TYPE_CHECKING:
    from pock_tvm.targets import TargetSpec


@click.group("targets", invoke_without_command=True)
@json_option
@click.pass_context
def targets_command(context: click.Context, *, as_json: bool) -> None:
    """List the machines that `pock compile --target` knows.

    \b
    $ pock targets
    targets
      name            core        vector bits  cores  triple             emulator
      host            znver4              512      2  x86_64-linux-gnu
      x86-64-v3       x86-64-v3           256      4  x86_64-linux-gnu   qemu-x86_64 -cpu max
      x86-64-v4       x86-64-v4           512      4  x86_64-linux-gnu   qemu-x86_64 -cpu max
      raspberry-pi-4  cortex-a72          128      4  aarch64-linux-gnu  qemu-aarch64
    """
    if context.invoked_subcommand:
        return
    from pock_tvm.targets import target_specs

    specs = target_specs().values()
    if as_json:
        print_json({"targets": [describe(spec) for spec in specs]})
        return
    rows = [
        (s.name, s.core, s.vector_bits, s.cores, s.tvm_options["mtriple"], " ".join(s.emulator))
        for s in specs
    ]
    print_table("targets", ("name", "core", "vector bits", "cores", "triple", "emulator"), rows)


@targets_command.command("show")
@click.argument("name")
@json_option
def show_command(*, name: str, as_json: bool) -> None:
    """Show everything that is known about the target NAME, or about that of a .toml file.

    \b
    $ pock targets show raspberry-pi-4
    raspberry-pi-4
      TVM options         kind=llvm mtriple=aarch64-linux-gnu mcpu=cortex-a72 mattr=+neon
      zig target          aarch64-linux-musl
      zig options         -mcpu=cortex_a72 -static
      emulator            qemu-aarch64
      core                cortex-a72
      vector register     128 bits
      ...
    """
    from pock_tvm.targets import get_target

    spec = get_target(name)
    if as_json:
        print_json(describe(spec))
        return
    emulator = spec.emulator[0] if spec.emulator else ""
    missing = "" if not emulator or shutil.which(emulator) else " (not installed)"
    print_rows(
        spec.name,
        {
            "TVM options": " ".join(f"{k}={_joined(v)}" for k, v in spec.tvm_options.items()),
            "zig target": spec.zig_target,
            "zig options": " ".join(spec.zig_options) or "-",
            "emulator": f"{' '.join(spec.emulator)}{missing}" or "-",
            "core": spec.core,
            "vector register": f"{spec.vector_bits} bits",
            "vector registers": spec.vector_registers,
            "level-1 data cache": f"{format_bytes(spec.l1_bytes)} per core",
            "level-2 cache": f"{format_bytes(spec.l2_bytes)} per core",
            "cores": spec.cores,
            **_device_rows(spec),
            "source": spec.source,
        },
    )


def _device_rows(spec: "TargetSpec") -> dict[str, Any]:
    """Return what is known about the GPU, where there is one."""
    if spec.device is None:
        return {}
    return {
        "GPU": " ".join(f"{k}={_joined(v)}" for k, v in spec.device.tvm_options.items()),
        "GPU's work-group": f"{spec.device.group_threads} threads",
        "GPU's shared memory": f"{format_bytes(spec.device.shared_bytes)} per work-group",
    }


def describe(spec: "TargetSpec") -> dict[str, Any]:
    """Return a target as plain data; sizes have their unit in the key."""
    return {key: _plain(value) for key, value in asdict(spec).items()}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _joined(value: Any) -> str:
    return ",".join(value) if isinstance(value, (list, tuple)) else str(value)
