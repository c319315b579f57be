"""TensorFlow at its best setting: one ``tf.function``, embeddings updated by rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import tensorflow as tf
from aten import Graph, stored
from protocol import serve


class _Numpy:
    """What `Graph` calls of numpy, in TensorFlow's own operators."""

    transpose, sqrt, broadcast_to, expand_dims = (
        tf.transpose,
        tf.sqrt,
        tf.broadcast_to,
        tf.expand_dims,
    )
    cos, sin, tanh, maximum, pad, reshape = tf.cos, tf.sin, tf.tanh, tf.maximum, tf.pad, tf.reshape
    matmul, concatenate, clip, where = tf.matmul, tf.concat, tf.clip_by_value, tf.where

    @staticmethod
    def mean(x: Any, axis: Any, *, keepdims: Any) -> Any:
        return tf.reduce_mean(x, axis, keepdims)

    @staticmethod
    def take_along_axis(x: Any, index: Any, axis: int) -> Any:
        return tf.gather(x, index, axis=axis, batch_dims=axis)

    @staticmethod
    def asarray(x: Any, dtype: str) -> Any:
        return tf.cast(x, dtype)


class TensorFlow:
    """TensorFlow's operators."""

    np = _Numpy

    def convolution(self, x: Any, w: Any, stride: int, padding: int, groups: int) -> Any:
        """Convolve; borders are padded by the convolution itself."""
        pads = [[0, 0], [padding, padding], [padding, padding], [0, 0]]
        if groups > 1 and w.shape[2] == 1 and w.shape[3] == x.shape[-1] == groups:
            if padding:
                x = tf.pad(x, pads)
            weight = tf.transpose(w, (0, 1, 3, 2))
            return tf.nn.depthwise_conv2d(x, weight, [1, stride, stride, 1], "VALID")
        return tf.nn.conv2d(x, w, stride, pads if padding else "VALID")

    def max_pool(self, x: Any, window: int, stride: int, padding: int) -> Any:
        """Take the largest of each window; what is pooled is behind a ReLU."""
        if padding:
            x = tf.pad(x, [[0, 0], [padding, padding], [padding, padding], [0, 0]])
        return tf.nn.max_pool2d(x, window, stride, "VALID")

    def embedding(self, table: Any, indices: Any) -> Any:
        """Take rows; the gradient of a variable is that of the rows."""
        return tf.gather(table, indices)

    def stop_gradient(self, x: Any) -> Any:
        """Return x as a constant."""
        return tf.stop_gradient(x)

    def softmax(self, x: Any, axis: int) -> Any:
        """Normalize exponentials."""
        return tf.nn.softmax(x, axis)

    def gelu(self, x: Any) -> Any:
        """Return the exact form."""
        return tf.nn.gelu(x, approximate=False)

    def sigmoid(self, x: Any) -> Any:
        """Return the logistic function."""
        return tf.sigmoid(x)


def make(task: dict[str, Any], folder: Path) -> Callable[[], float]:
    """Return a function that does one step."""
    tf.config.threading.set_intra_op_parallelism_threads(task["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(1)
    weights = stored(task, numpy.load(folder / "weights.npz"))
    batch = numpy.load(folder / "batch.npz")
    inputs, labels = tf.constant(batch["inputs"]), tf.constant(batch["labels"])
    learning = {n: tf.Variable(weights[n]) for n in task["trainable"]}
    frozen = {n: tf.constant(v) for n, v in weights.items() if n not in learning}
    graph, rate = Graph(task, TensorFlow()), task["learning_rate"]
    names = list(learning)
    adam = (
        tf.keras.optimizers.AdamW(rate, 0.01, epsilon=1e-8)
        if task["optimizer"] == "adamw"
        else None
    )

    @tf.function
    def update() -> Any:
        with tf.GradientTape() as tape:
            logits = graph({**frozen, **learning}, inputs)
            logits = tf.reshape(logits, [-1, logits.shape[-1]])
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, [learning[n] for n in names])
        if adam is not None:
            adam.apply_gradients(zip(gradients, [learning[n] for n in names], strict=True))
            return loss
        for name, gradient in zip(names, gradients, strict=True):
            if isinstance(gradient, tf.IndexedSlices):
                change = tf.IndexedSlices(rate * gradient.values, gradient.indices)
                learning[name].scatter_sub(change)
            elif gradient is not None:
                learning[name].assign_sub(rate * gradient)
        return loss

    return lambda: float(update())


if __name__ == "__main__":
    serve(make)
