"""Which inputs a kernel may be written over."""

import pytest
from tvm import te

from pock_tvm.schedules import overwritable_inputs


def operands():
    return (
        te.placeholder((4, 5), name="x"),
        te.placeholder((4, 5), name="z"),
        te.placeholder((5,), name="b"),
    )


def kernel(*tensors):
    return te.create_prim_func(list(tensors))


def test_operands_read_at_the_point_itself_through_inlined_stages() -> None:
    x, z, b = operands()
    biased = te.compute((4, 5), lambda i, j: x[i, j] + b[j])
    y = te.compute((4, 5), lambda i, j: biased[i, j] * z[i, j] + x[i, j])
    assert overwritable_inputs(kernel(x, b, z, y)) == (0, 2)


@pytest.mark.parametrize(
    "read",
    [
        lambda x: lambda i, j: x[3 - i, j],
        lambda x: lambda i, j: x[i, j] + x[0, j],
        lambda x: lambda i, j: x[i, 0],
    ],
)
def test_not_where_another_point_is_read(read) -> None:
    x, z, _ = operands()
    moved = te.compute((4, 5), read(x))
    y = te.compute((4, 5), lambda i, j: moved[i, j] + z[i, j])
    assert overwritable_inputs(kernel(x, z, y)) == (1,)


def test_not_where_element_types_differ() -> None:
    x, _, _ = operands()
    assert overwritable_inputs(kernel(x, te.compute((4, 5), lambda i, j: x[i, j] > 0.0))) == ()


def test_not_beside_a_reduction_or_a_second_output() -> None:
    x, _, _ = operands()
    k = te.reduce_axis((0, 5))
    total = te.compute((4,), lambda i: te.sum(x[i, k], axis=k))
    centred = te.compute((4, 5), lambda i, j: x[i, j] - total[i])
    assert overwritable_inputs(kernel(x, centred)) == ()
    doubled = te.compute((4, 5), lambda i, j: x[i, j] * 2.0)
    negated = te.compute((4, 5), lambda i, j: doubled[i, j] * -1.0)
    assert overwritable_inputs(kernel(x, doubled, negated)) == ()
