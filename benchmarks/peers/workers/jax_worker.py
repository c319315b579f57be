"""JAX at its best setting: one jitted step, weights donated, depthwise convolutions as shifts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy
from aten import Graph, stored
from protocol import serve


class Jax:
    """JAX's operators; XLA has no fast depthwise convolution on a processor."""

    np = jnp

    def convolution(self, x: Any, w: Any, stride: int, padding: int, groups: int) -> Any:
        """Convolve; a depthwise one is a sum of shifted products."""
        if groups == x.shape[-1] == w.shape[-1] and w.shape[2] == 1:
            return self._shifts(x, w, stride, padding)
        return jax.lax.conv_general_dilated(
            x,
            w,
            (stride, stride),
            [(padding, padding)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    def _shifts(self, x: Any, w: Any, stride: int, padding: int) -> Any:
        x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
        high, wide = w.shape[:2]
        rows, columns = (x.shape[1] - high) // stride + 1, (x.shape[2] - wide) // stride + 1
        total = 0.0
        for p in range(high):
            for q in range(wide):
                ends = (p + (rows - 1) * stride + 1, q + (columns - 1) * stride + 1)
                part = x[:, p : ends[0] : stride, q : ends[1] : stride]
                total = total + part * w[p, q, 0]
        return total

    def max_pool(self, x: Any, window: int, stride: int, padding: int) -> Any:
        """Take the largest of each window."""
        pad = ((0, 0), (padding, padding), (padding, padding), (0, 0))
        size, step = (1, window, window, 1), (1, stride, stride, 1)
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, size, step, pad)

    def embedding(self, table: Any, indices: Any) -> Any:
        """Take rows."""
        return table[indices]

    def stop_gradient(self, x: Any) -> Any:
        """Return x as a constant."""
        return jax.lax.stop_gradient(x)

    def softmax(self, x: Any, axis: int) -> Any:
        """Normalize exponentials."""
        return jax.nn.softmax(x, axis)

    def gelu(self, x: Any) -> Any:
        """Return the exact form."""
        return jax.nn.gelu(x, approximate=False)

    def sigmoid(self, x: Any) -> Any:
        """Return the logistic function."""
        return jax.nn.sigmoid(x)


def make(task: dict[str, Any], folder: Path) -> Callable[[], float]:
    """Return a function that does one step."""
    weights = stored(task, numpy.load(folder / "weights.npz"))
    batch = numpy.load(folder / "batch.npz")
    inputs, labels = jnp.asarray(batch["inputs"]), jnp.asarray(batch["labels"])
    learning = {n: jnp.asarray(weights[n]) for n in task["trainable"]}
    frozen = {n: jnp.asarray(v) for n, v in weights.items() if n not in learning}
    graph, rate = Graph(task, Jax()), task["learning_rate"]
    adam = task["optimizer"] == "adamw"
    zeros = {n: jnp.zeros_like(v) for n, v in learning.items()} if adam else {}
    state = (learning, zeros, jax.tree.map(jnp.copy, zeros), jnp.float32(0))

    def loss_of(learning: Any, frozen: Any, inputs: Any, labels: Any) -> Any:
        scores = jax.nn.log_softmax(graph({**frozen, **learning}, inputs))
        scores = scores.reshape(-1, scores.shape[-1])
        return -jnp.mean(jnp.take_along_axis(scores, labels[:, None], 1))

    def update(state: Any, frozen: Any, inputs: Any, labels: Any) -> Any:
        learning, mean, square, count = state
        loss, grads = jax.value_and_grad(loss_of)(learning, frozen, inputs, labels)
        if not adam:
            return ({n: p - rate * grads[n] for n, p in learning.items()}, {}, {}, count), loss
        count = count + 1
        mean = {n: 0.9 * mean[n] + 0.1 * g for n, g in grads.items()}
        square = {n: 0.999 * square[n] + 0.001 * g * g for n, g in grads.items()}
        fresh = {
            n: p * (1 - rate * 0.01)
            - rate
            * (mean[n] / (1 - 0.9**count))
            / (jnp.sqrt(square[n] / (1 - 0.999**count)) + 1e-8)
            for n, p in learning.items()
        }
        return (fresh, mean, square, count), loss

    compiled = jax.jit(update, donate_argnums=0)

    def step() -> float:
        nonlocal state
        state, loss = compiled(state, frozen, inputs, labels)
        jax.block_until_ready(state)
        return float(loss)

    return step


if __name__ == "__main__":
    serve(make)
