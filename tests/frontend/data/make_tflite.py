"""Make small_net.tflite and what it predicts; run once, in an environment of its own.

    python -m venv tensorflow && tensorflow/bin/pip install tensorflow-cpu
    tensorflow/bin/python tests/frontend/data/make_tflite.py

TensorFlow does not live beside the versions of NumPy and protobuf that the project uses.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf

HERE = Path(__file__).parent


def main() -> None:
    """Write the model and one batch of inputs and outputs."""
    tf.keras.utils.set_random_seed(0)
    layers = tf.keras.layers
    net = tf.keras.Sequential(
        [
            layers.Input((16, 16, 3), batch_size=2, name="pixels"),
            layers.Conv2D(8, 3, strides=2, padding="same", name="stem"),
            layers.ReLU(6.0),
            layers.DepthwiseConv2D(3, padding="same", name="depthwise"),
            layers.ReLU(),
            layers.Conv2D(16, 1, name="pointwise"),
            layers.MaxPooling2D(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5, name="classifier"),
        ]
    )
    for weight in net.weights:
        weight.assign(weight + 0.05 * tf.random.normal(weight.shape))
    content = tf.lite.TFLiteConverter.from_keras_model(net).convert()
    (HERE / "small_net.tflite").write_bytes(content)
    pixels = np.random.default_rng(0).standard_normal((2, 16, 16, 3)).astype("float32")
    np.savez(HERE / "small_net.npz", pixels=pixels, logits=net(pixels).numpy())


if __name__ == "__main__":
    main()
