"""From kernels to objects: what is exported, what asks the runtime for memory, what stays apart."""

import re
import subprocess

import pytest
from tvm import te

from pock_tvm.relay_passes.build_object import build_objects
from pock_tvm.relay_passes.emit_entry_point import entry_symbol, kernel_symbol
from pock_tvm.relay_passes.step import KernelCall, Step, Tensor
from pock_tvm.targets import get_target


def doubled_twice(count: int):
    """Return y = 2·(2·x) with the inner product in a buffer of ``count`` floats."""
    x = te.placeholder((count,), name="x")
    inner = te.compute((count,), lambda i: x[i] * 2.0, name="inner")
    y = te.compute((count,), lambda i: inner[count - 1 - i] * 2.0, name="y")
    return te.create_prim_func([x, y])


def step_of(count: int) -> Step:
    tensors = {n: Tensor(n, (count,), "float32") for n in ("x", "y")}
    call = KernelCall("doubled_twice", ("x",), ("y",))
    return Step("predict", tensors, (call,), ("x",), ("y",))


def symbols(object_bytes: bytes, path) -> tuple[set[str], set[str]]:
    """Return the symbols that an object defines, and those that it asks for."""
    path.write_bytes(object_bytes)
    listed = subprocess.run(["nm", path], capture_output=True, text=True, check=True).stdout
    defined = set(re.findall(r" [TV] (\w+)$", listed, re.M))
    return defined, set(re.findall(r" U (\w+)$", listed, re.M))


def build(count: int):
    step = step_of(count)
    offsets = {"predict": {"x": 0, "y": 4 * count}}
    return build_objects(
        [step], offsets, {"doubled_twice": doubled_twice(count)}, get_target("host")
    )


def test_kernels_and_entry_points_stand_in_objects_of_their_own(tmp_path) -> None:
    entries, kernels = (symbols(o, tmp_path / "o.o") for o in build(16).objects)
    assert entry_symbol("predict") in entries[0]
    assert kernel_symbol("doubled_twice") in entries[1]  # asked for, so that it cannot be inlined
    assert kernel_symbol("doubled_twice") in kernels[0]


@pytest.mark.parametrize("count, stays", [(2048, True), (2049, False)])
def test_buffers_of_up_to_eight_kibibytes_stay_on_the_stack(count, stays) -> None:
    built = build(count)
    workspace = b"TVMBackendAllocWorkspace"
    assert (workspace not in b"".join(built.objects)) == stays
    assert (built.workspace_bytes_per_thread == 0) == stays
    if not stays:
        assert built.workspace_bytes_per_thread >= 4 * count


def test_objects_for_another_machine() -> None:
    step, spec = step_of(16), get_target("raspberry-pi-4")
    offsets = {"predict": {"x": 0, "y": 64}}
    built = build_objects([step], offsets, {"doubled_twice": doubled_twice(16)}, spec)
    aarch64 = 183  # e_machine of the ELF header
    assert all(int.from_bytes(o[18:20], "little") == aarch64 for o in built.objects)
