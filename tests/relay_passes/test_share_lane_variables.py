"""Vector loops of one length share their variable, and nothing else changes."""

from typing import Any

import tvm
import tvm_ffi
from tvm import tirx

from pock_tvm.relay_passes.share_lane_variables import ShareLaneVariables
from pock_tvm.schedules.cpu.nest import loop, sequence
from pock_tvm.schedules.cpu.vectors import vector


def _kernel() -> tvm.IRModule:
    x = tirx.decl_buffer([tirx.const(64, "int64")], "float32", "x")

    def add(base: Any) -> Any:
        return lambda v: tirx.BufferStore(x, tirx.BufferLoad(x, [base + v]) + 1.0, [base + v])

    body = sequence(
        vector(16, "int64", add(0)),
        vector(8, "int64", add(16)),
        loop("i", 2, "int64", lambda i: vector(16, "int64", add(16 * i + 32))),
        loop("i", 2, "int64", lambda i: vector(8, "int64", add(8 * i))),
    )
    return tvm.IRModule({"main": tirx.PrimFunc([x], body)})


def _variables(mod: tvm.IRModule) -> list[tuple[str, int, Any]]:
    found: list[tuple[str, int, Any]] = []

    def note(nest: tirx.For) -> None:
        found.append((nest.loop_var.name, int(nest.extent.value), nest.loop_var))

    tvm_ffi.structural_walk(mod["main"].body, (tirx.For, note), order="pre")
    return found


def test_vector_loops_of_one_length_share_a_variable() -> None:
    mod = _kernel()
    before = _variables(mod)
    after = _variables(ShareLaneVariables()(mod))
    assert [row[:2] for row in after] == [row[:2] for row in before]
    assert len({row[2] for row in before}) == 6
    lanes = {count: {v for name, n, v in after if name == "v" and n == count} for count in (8, 16)}
    assert len(lanes[8]) == len(lanes[16]) == 1
    assert len({row[2] for row in after}) == 4, "serial loops keep their own"
    assert _variables(mod) == before, "the module that came in is as it was"


def test_told_apart_again_the_kernel_is_what_it_was() -> None:
    mod = _kernel()
    shared = ShareLaneVariables()(mod)
    tvm.ir.assert_structural_equal(tirx.transform.ConvertSSA()(shared), mod)
    tvm.ir.assert_structural_equal(ShareLaneVariables()(shared), shared)
