import pytest

from pock_tvm.errors import TargetFileError
from pock_tvm.targets import get_target
from pock_tvm.targets.base import TargetSpec

BOARD = """
name = "my-board"
like = "raspberry-pi-4"
core = "cortex-a73"
l2_bytes = 524288
[tvm_options]
kind = "llvm"
mtriple = "aarch64-linux-gnu"
mcpu = "cortex-a73"
"""


@pytest.fixture
def write(tmp_path):
    def write_text(text):
        path = tmp_path / "board.toml"
        path.write_text(text)
        return str(path)

    return write_text


def test_fields_come_from_the_file_and_else_from_what_it_is_like(write):
    spec, pi = get_target(write(BOARD)), get_target("raspberry-pi-4")
    assert isinstance(spec, TargetSpec)
    assert (spec.name, spec.core, spec.l2_bytes) == ("my-board", "cortex-a73", 524288)
    assert spec.tvm_options["mcpu"] == "cortex-a73"
    assert (spec.zig_target, spec.l1_bytes) == (pi.zig_target, pi.l1_bytes)
    assert spec.source.endswith("board.toml, like raspberry-pi-4")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name = ", r"is not TOML: "),
        ("name = 'x'", r"tvm_options is missing; `like` can give it"),
        ("like = 'raspberry-pi-4'", r"name is missing"),
        ("like = 'pdp-11'\nname = 'x'", r"like is 'pdp-11'; it takes one of x86-64-v2, "),
        ("like = ['host']\nname = 'x'", r"like is \['host'\]; it takes one of "),
        ("like = 'host'\nname = 'x'", r"like is 'host'; it takes one of "),
        (f"l3_bytes = 4{BOARD}", r"no field is called l3_bytes; there are name, tvm_options, "),
        (f"precision = 'bf16'{BOARD}", r"no field is called precision; there are name, "),
        (BOARD.replace("524288", "'half'"), r"l2_bytes is 'half'; it takes a positive number"),
        (BOARD.replace("524288", "-1"), r"l2_bytes is -1; it takes a positive number"),
        (BOARD.replace("524288", "true"), r"l2_bytes is True; it takes a positive number"),
        (f"vector_bits = 100{BOARD}", r"vector_bits is 100; it takes a power of two"),
        (f"vector_registers = 2{BOARD}", r"vector_registers is 2; kernels need at least 8"),
        (f"zig_options = '-static'{BOARD}", r"zig_options is '-static'; it takes a list"),
        (BOARD.replace('"my-board"', "7"), r"name is 7; it takes a string"),
        (BOARD.replace("my-board", "riscv64"), r"the name 'riscv64' is taken; choose another"),
        (BOARD.replace('"llvm"', '"cuda"'), r'it takes a table with kind = "llvm"'),
        (BOARD.replace("aarch64-", "pdp11-"), r"the architecture 'pdp11' is none that can be"),
        (f"device = 'mali'{BOARD}", r"device is 'mali'; a GPU comes from the target that"),
        (f"{BOARD}\nspeed = 3", r"TVM refuses tvm_options: .*speed"),
        (BOARD.replace('"cortex-a73"\n', '"6502"\n'), r"LLVM knows no mcpu '6502' for aarch64"),
    ],
)
def test_a_malformed_file_is_refused_in_one_line(write, text, says):
    with pytest.raises(TargetFileError, match=says) as caught:
        get_target(write(text))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there():
    with pytest.raises(TargetFileError, match=r"cannot read target no\.toml: No such file"):
        get_target("no.toml")
