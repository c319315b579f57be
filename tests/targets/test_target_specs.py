import platform
import shutil
import subprocess

import pytest
import tvm_ffi

from pock_tvm import PockError
from pock_tvm.artifact import machine
from pock_tvm.targets import get_target, target_specs

SPECS = target_specs()


@pytest.mark.parametrize("name", SPECS)
def test_tvm_accepts_the_options(name):
    target = SPECS[name].build()
    assert str(target.kind.name if hasattr(target.kind, "name") else target.kind) == "llvm"


@pytest.mark.parametrize("name", SPECS)
def test_llvm_knows_the_processor(name):
    spec = SPECS[name]
    known = tvm_ffi.get_global_func("target.llvm_get_cpu_archlist")(spec.build())
    assert spec.tvm_options["mcpu"] in set(map(str, known))


@pytest.mark.parametrize("name", SPECS)
def test_numbers_are_those_of_a_machine(name):
    spec = SPECS[name]
    assert spec.name == name
    assert spec.vector_bits in (32, 128, 256, 512, 1024)
    assert spec.vector_lanes("float32") * 32 == spec.vector_bits
    assert spec.vector_lanes("int8") * 8 == spec.vector_bits
    assert 8 <= spec.vector_registers <= 32
    assert 8 * 1024 <= spec.l1_bytes < spec.l2_bytes <= 64 << 20
    assert spec.cores >= 1
    assert len(spec.source) > 10  # a datasheet or a file of results


@pytest.mark.parametrize("name", [name for name in SPECS if SPECS[name].emulator])
def test_the_emulator_knows_the_architecture(name):
    command = SPECS[name].emulator[0]
    if not shutil.which(command):
        pytest.skip(f"{command} is missing: apt-get install qemu-user")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert "version" in done.stdout


def test_the_host_is_this_machine():
    spec = get_target("host")
    assert machine.architecture(spec.tvm_options) == platform.machine()
    assert next(iter(SPECS)) == "host"
    assert machine.why_not_here(spec.tvm_options, []) is None


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(PockError, match=r"unknown target 'raspbery-pi-4'; did you mean 'raspberry"):
        get_target("raspbery-pi-4")
    with pytest.raises(PockError, match=r"unknown target 'pdp-11' \(`pock targets` lists all\)"):
        get_target("pdp-11")
