"""Parameters as ``parameters_of`` finds them, made from names alone."""

import numpy as np

from pock_tvm.update import Parameter, UpdateScheme, resolve


def linear(name, out=8, inner=4, **options):
    return Parameter(
        name=name, shape=(out, inner), reader="linear", input_axis=1, output_axis=0, **options
    )


def conv(name, out=8, inner=4, window=1):
    return Parameter(
        name=name,
        shape=(out, inner, window, window),
        reader="conv",
        input_axis=1,
        output_axis=0,
        pointwise=window == 1,
    )


def depthwise(name, channels=8):
    return Parameter(
        name=name, shape=(channels, 1, 3, 3), reader="depthwise", input_axis=0, groups=channels
    )


def vector(name, length=8, **options):
    return Parameter(name=name, shape=(length,), **options)


def table(name, rows=20, columns=4, **options):
    return Parameter(name=name, shape=(rows, columns), reader="embedding", **options)


def values_of(parameters, seed=0):
    generator = np.random.default_rng(seed)
    return {p.name: generator.standard_normal(p.shape).astype(p.dtype) for p in parameters}


def update_of(parameters, **options):
    scheme = UpdateScheme(name="test", **options)
    return resolve(scheme, parameters, values_of(parameters))
