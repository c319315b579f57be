"""Importing JAX: names, values, losses against JAX itself, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_jax_net

import pock_tvm
from pock_tvm.errors import PockError, UnsupportedModelError
from pock_tvm.frontend import load_model
from pock_tvm.frontend.jax_function import import_jax
from pock_tvm.relay_passes.rewrite import bindings_of, is_call_to

BATCH = small_jax_net.BATCH


def test_gradients_stop_where_jax_stops_them():
    def apply(p, x):
        y = x @ p["w"]
        return y * jax.lax.stop_gradient(jnp.tanh(y))

    example = (np.zeros((2, 3), "float32"),)
    model = import_jax(apply, {"w": np.eye(3, dtype="float32")}, example, 2, "net")
    bindings = list(bindings_of(model.mod["main"]))
    (barrier,) = [b.value for b in bindings if is_call_to(b.value, "pock.stop_gradient")]
    (bent,) = [b.var for b in bindings if is_call_to(b.value, "relax.tanh")]
    assert barrier.args[0].same_as(bent)


@pytest.fixture(scope="module")
def imported():
    return load_model("small_jax_net:build", BATCH)


def test_tensors_are_named_after_their_path_in_the_order_of_use(imported):
    names = list(imported.parameters)
    assert names[:2] == ["params.stem.kernel", "params.stem.bias"]
    assert names[-2:] == ["params.head.kernel", "params.head.bias"]
    assert len(names) == 11
    (spec,) = imported.inputs
    assert (spec.name, spec.shape, spec.dtype) == ("pixels", (BATCH, 16, 16, 1), "float32")


def test_training_follows_jax(imported, tmp_path):
    apply, params, _ = small_jax_net.build()
    rng = np.random.default_rng(1)
    pixels = rng.standard_normal((BATCH, 16, 16, 1)).astype("float32")
    labels = rng.integers(0, small_jax_net.CLASSES, BATCH).astype("int32")

    def loss_of(p):
        return -jax.nn.log_softmax(apply(p, pixels))[jnp.arange(BATCH), labels].mean()

    pock_tvm.compile(imported, tmp_path / "net")
    with pock_tvm.Trainer(tmp_path / "net") as trainer:
        wanted = apply(params, pixels)
        np.testing.assert_allclose(trainer.predict(pixels), wanted, rtol=1e-5, atol=1e-5)
        for _ in range(5):
            loss, gradients = jax.value_and_grad(loss_of)(params)
            assert trainer.step(pixels, labels, 0.1) == pytest.approx(float(loss), rel=1e-5)
            params = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradients)
        for layer, tensors in params["params"].items():
            for name, value in tensors.items():
                got = trainer.tensor(f"params.{layer}.{name}")
                np.testing.assert_allclose(got, value, rtol=1e-4, atol=1e-5)


def test_rows_of_a_table_and_flax_statistics(tmp_path):
    table = np.arange(12, dtype="float32").reshape(4, 3)
    variables = {"params": {"table": table}, "batch_stats": {"mean": np.ones(3, "float32")}}

    def apply(variables, ids):
        rows = jnp.asarray(variables["params"]["table"]).at[ids].get(mode="clip")
        return (rows - variables["batch_stats"]["mean"]).sum(1)

    model = import_jax(apply, variables, (np.zeros((1, 2), "int32"),), 2, "bag")
    assert model.buffers == {"batch_stats.mean"}
    pock_tvm.compile(model, tmp_path / "net")
    with pock_tvm.Trainer(tmp_path / "net") as trainer:
        ids = np.array([[0, 3], [1, 1]], "int32")
        np.testing.assert_array_equal(trainer.predict(ids), apply(variables, ids))


def test_every_operation_that_is_lacking_is_named():
    def apply(params, x):
        with jax.named_scope("odd"):
            y = jnp.sort(x @ params["w"])
        return jnp.linalg.cholesky(y[:, :, None] * y[:, None, :])[:, 0] + jnp.cumsum(y, 1)

    with pytest.raises(UnsupportedModelError, match="no converter for") as caught:
        import_jax(apply, {"w": np.eye(3, dtype="float32")}, (np.zeros((1, 3)),), 2, "net")
    assert "stablehlo.sort (in" in str(caught.value)
    assert "stablehlo.custom_call" in str(caught.value) or "cholesky" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_several_outputs_need_a_choice():
    def apply(params, x):
        return {"a": x @ params["w"], "b": x}

    arguments = (apply, {"w": np.ones((3, 2), "float32")}, (np.zeros((1, 3), "float32"),), 2, "net")
    with pytest.raises(PockError, match=r"2 tensors \(0: a, 1: b\)"):
        import_jax(*arguments)
    chosen = import_jax(*arguments, output="a")
    assert [int(d) for d in chosen.mod["main"].ret_ty.shape] == [2, 2]


def test_a_function_that_jax_cannot_trace():
    def apply(params, x):
        return x if x.sum() > 0 else -x

    with pytest.raises(UnsupportedModelError, match="JAX cannot lower net: "):
        import_jax(apply, {}, (np.zeros((1, 3), "float32"),), 2, "net")
