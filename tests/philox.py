"""Philox in plain integers, as the paper writes it, and the masks that dropout makes of it."""

import numpy as np

LOW = 0xFFFFFFFF


def _multiply(a, b):
    return divmod(a * b, 1 << 32)


def philox_4x32(counter, key):
    x, k = list(counter), list(key)
    for _ in range(10):
        (high0, low0), (high1, low1) = _multiply(0xD2511F53, x[0]), _multiply(0xCD9E8D57, x[2])
        x = [high1 ^ x[1] ^ k[0], low1, high0 ^ x[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B9) & LOW, (k[1] + 0xBB67AE85) & LOW]
    return x


def philox_2x32(counter, key):
    x = list(counter)
    for _ in range(10):
        high, low = _multiply(0xD256D193, x[0])
        x = [high ^ key ^ x[1], low]
        key = (key + 0x9E3779B9) & LOW
    return x


def kept(seed, draw, stream, shape, p):
    """Return the mask of what a dropout keeps."""
    key, start = philox_4x32([draw & LOW, draw >> 32, stream, 0], [seed & LOW, seed >> 32])[:2]
    words = [philox_2x32([start, i], key)[0] for i in range(int(np.prod(shape)))]
    return np.reshape([word >= round(p * 2**32) for word in words], shape)
