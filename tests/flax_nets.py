"""Nets of Flax, ``flax_nets:words`` and ``flax_nets:pictures`` on the command line."""

BATCH, CLASSES, LENGTH, WORDS = 3, 5, 6, 30


def words():
    """One causal transformer block over looked-up words."""
    import jax.numpy as jnp
    from flax import linen as nn

    class Words(nn.Module):
        @nn.compact
        def __call__(self, ids):
            x = nn.Embed(WORDS, 16)(ids)
            mask = nn.make_causal_mask(ids)
            x = x + nn.MultiHeadDotProductAttention(num_heads=2)(nn.LayerNorm()(x), mask=mask)
            wide = nn.gelu(nn.Dense(32)(nn.LayerNorm()(x)))
            return nn.Dense(CLASSES)((x + nn.Dense(16)(wide)).mean(1))

    return _built(Words(), jnp.zeros((1, LENGTH), jnp.int32))


def pictures():
    """Convolutions, three kinds of normalization with frozen statistics, pooling, attention."""
    import jax.numpy as jnp
    from flax import linen as nn

    class Pictures(nn.Module):
        @nn.compact
        def __call__(self, pixels):
            x = nn.Conv(8, (3, 3), strides=(2, 2))(pixels)
            x = nn.relu(nn.BatchNorm(use_running_average=True)(x))
            x = nn.Conv(8, (3, 3), feature_group_count=8)(x)
            x = nn.gelu(nn.GroupNorm(num_groups=4)(x))
            x = nn.avg_pool(x, (2, 2), (2, 2))
            x = nn.LayerNorm()(x.reshape(x.shape[0], -1, 8))
            x = nn.RMSNorm()(x + nn.MultiHeadDotProductAttention(num_heads=2)(x, x))
            return nn.Dense(CLASSES)(nn.silu(nn.Dense(16)(x)).mean(1))

    return _built(Pictures(), jnp.zeros((1, 12, 12, 2)))


def _built(net, example):
    import jax

    return net.apply, net.init(jax.random.key(0), example), (example,)
