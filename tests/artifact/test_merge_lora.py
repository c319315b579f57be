import numpy as np
import pytest

from pock_tvm.artifact.merge_lora import merge_lora, merged_weight

RNG = np.random.default_rng(0)
A, B = (RNG.standard_normal(s).astype("float32") for s in ((6, 2), (2, 4)))


@pytest.mark.parametrize(
    ("shape", "transposed"),
    [((6, 4), False), ((4, 6), True), ((4, 6, 1, 1), True), ((1, 1, 6, 4), False)],
)
def test_the_product_is_added_in_the_layout_of_the_weight(shape, transposed):
    weight = RNG.standard_normal(shape).astype("float32")
    got = merged_weight(weight, A, B, scale=3.0, transposed=transposed)
    wanted = np.empty(shape)
    for i in range(6):
        for o in range(4):
            at = (o, i) if transposed else (i, o)
            at = at if len(shape) == 2 else (*at, 0, 0) if transposed else (0, 0, *at)
            wanted[at] = weight[at] + 3.0 * sum(float(A[i, r]) * float(B[r, o]) for r in range(2))
    assert (got.dtype, got.shape) == (weight.dtype, shape)
    np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-6)


def test_before_the_first_step_a_weight_keeps_its_bits():
    weight = np.array([[-0.0, 1.0]], "float32")
    zero = np.zeros((2, 2), "float32")
    got = merged_weight(weight, np.ones((1, 2), "float32"), zero, scale=1.0, transposed=False)
    assert got.tobytes() == weight.tobytes()


def test_factors_leave_and_other_tensors_stay():
    weight = RNG.standard_normal((4, 6)).astype("float32")
    done = {"kind": "lora", "scale": 2.0, "transposed": True, "a": "w.lora_A", "b": "w.lora_B"}
    update = {"tensors": {"w": done, "bias": {"kind": "whole"}}}
    bias = np.ones(4, "float32")
    merged = merge_lora(update, {"w": weight, "w.lora_A": A, "w.lora_B": B, "bias": bias})
    assert list(merged) == ["w", "bias"]
    np.testing.assert_allclose(merged["w"], weight + 2 * (A @ B).T, rtol=1e-5, atol=1e-6)
    assert merged["bias"] is bias
    assert merge_lora({}, {"bias": bias}) == {"bias": bias}
