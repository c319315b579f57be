"""Modules of Flax itself: named after their path, and trained as JAX trains them."""

import flax_nets
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pock_tvm
from pock_tvm.frontend import load_model

RATE, STEPS = 0.1, 4


def _batch(name, example):
    rng = np.random.default_rng(1)
    shape = (flax_nets.BATCH, *example.shape[1:])
    if name == "words":
        return rng.integers(0, flax_nets.WORDS, shape).astype("int32")
    return rng.standard_normal(shape).astype("float32")


@pytest.mark.parametrize("name", ["words", pytest.param("pictures", marks=pytest.mark.slow)])
def test_a_flax_module_trains_as_in_jax(name, tmp_path):
    apply, variables, (example,) = getattr(flax_nets, name)()
    imported = load_model(f"flax_nets:{name}", flax_nets.BATCH)
    leaves = jax.tree_util.tree_flatten_with_path(variables)[0]
    named = {".".join(key.key for key in path): np.asarray(value) for path, value in leaves}
    assert imported.parameters.keys() == named.keys()
    statistics = {key for key in named if key.startswith("batch_stats.")}
    assert imported.buffers == statistics
    assert bool(statistics) == (name == "pictures")

    x, labels = _batch(name, example), np.arange(flax_nets.BATCH, dtype="int32")
    frozen = {key: value for key, value in variables.items() if key != "params"}

    def loss_of(params):
        logits = apply({"params": params, **frozen}, x)
        return -jax.nn.log_softmax(logits)[jnp.arange(len(x)), labels].mean()

    params = variables["params"]
    pock_tvm.compile(imported, tmp_path / "net")
    with pock_tvm.Trainer(tmp_path / "net") as trainer:
        wanted = apply(variables, x)
        np.testing.assert_allclose(trainer.predict(x), wanted, rtol=1e-5, atol=1e-5)
        for _ in range(STEPS):
            loss, gradients = jax.value_and_grad(loss_of)(params)
            assert trainer.step(x, labels, RATE) == pytest.approx(float(loss), rel=1e-5)
            params = jax.tree.map(lambda p, g: p - RATE * g, params, gradients)
        for path, value in jax.tree_util.tree_flatten_with_path(params)[0]:
            key = ".".join(["params", *(k.key for k in path)])
            np.testing.assert_allclose(trainer.tensor(key), value, rtol=1e-4, atol=1e-5)
        for key in statistics:
            assert trainer.tensor(key).tobytes() == named[key].tobytes()
