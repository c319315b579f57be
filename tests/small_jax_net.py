"""A small convolutional net with attention, ``small_jax_net:build`` on the command line."""

BATCH, CLASSES, INPUT = 4, 5, "pixels"


def build():
    import jax
    import jax.numpy as jnp
    import numpy as np

    layout = ("NHWC", "HWIO", "NHWC")

    def convolve(x, p, stride=1, groups=1, padding="SAME"):
        strides = (stride, stride)
        y = jax.lax.conv_general_dilated(
            x, p["kernel"], strides, padding, dimension_numbers=layout, feature_group_count=groups
        )
        return y + p["bias"]

    def attend(x, p):
        q, k, v = (jnp.einsum("btd,dhe->bthe", x, p[name]) for name in ("query", "key", "value"))
        weights = jax.nn.softmax(jnp.einsum("bqhe,bkhe->bhqk", q, k) / 2.0)
        return x + jnp.einsum("bhqk,bkhe->bqhe", weights, v).reshape(x.shape)

    def apply(params, pixels):
        p = params["params"]
        y = jax.nn.relu(convolve(pixels, p["stem"], stride=2))
        y = jnp.clip(convolve(y, p["depthwise"], groups=8), 0, 6)
        y = jax.nn.gelu(convolve(y, p["pointwise"], padding="VALID"))
        y = jax.lax.reduce_window(y, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        y = attend(y.reshape(y.shape[0], -1, y.shape[-1]), p["attention"])
        y = y.mean(1)
        y = (y - y.mean(-1, keepdims=True)) * jax.lax.rsqrt(y.var(-1, keepdims=True) + 1e-5)
        return y @ p["head"]["kernel"] + p["head"]["bias"]

    rng = np.random.default_rng(0)

    def drawn(*shape):
        return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))).astype("float32")

    shapes = {"stem": (3, 3, 1, 8), "depthwise": (3, 3, 1, 8), "pointwise": (1, 1, 8, 16)}
    shapes["head"] = (16, CLASSES)
    weights = {k: {"kernel": drawn(*s), "bias": 0.1 * drawn(s[-1])} for k, s in shapes.items()}
    weights["attention"] = {k: drawn(16, 4, 4) for k in ("query", "key", "value")}
    return apply, {"params": weights}, (np.zeros((1, 16, 16, 1), "float32"),)
