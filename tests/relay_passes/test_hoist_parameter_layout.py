"""HoistParameterLayout: parameters are stored as they are read, where all readers agree."""

from pass_checks import check_pass, main_of, operators
from tvm.relax.op import exp, matmul, permute_dims

from pock_tvm.relay_passes.hoist_parameter_layout import HoistParameterLayout


def test_a_linear_weight_is_stored_transposed() -> None:
    def build(bb, w, x):
        return bb.emit(matmul(x, bb.emit(permute_dims(w, [1, 0]))))

    before = main_of(build, {"w": (5, 3), "x": (2, 3)})
    after = check_pass(HoistParameterLayout(), before, stored_axes=True)
    assert operators(after) == ["matmul"]
    assert dict(after["main"].attrs["stored_axes"]) == {"w": (1, 0)}


def test_a_tied_weight_stays() -> None:
    def build(bb, w, x):
        row = bb.emit(exp(w))
        return bb.emit(matmul(x, bb.emit(permute_dims(w, [1, 0])))), row

    before = main_of(build, {"w": (5, 3), "x": (2, 3)})
    after = check_pass(HoistParameterLayout(), before, before)
    assert dict(after["main"].attrs["stored_axes"]) == {}
