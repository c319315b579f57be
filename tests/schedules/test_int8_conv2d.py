"""Products of 8-bit integers are exact, here and by the vectors of a Hexagon."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from kernel_cases import assembly, count, fuse_kernel, run_kernel

from pock_tvm.relay_passes.build_object import build_objects
from pock_tvm.relay_passes.operators.conv2d import Window
from pock_tvm.relay_passes.operators.int8 import (
    int8_conv2d,
    int8_scaled,
    int8_words,
    pack_words,
    quantize_weight,
)
from pock_tvm.relay_passes.step import KernelCall, Step, Tensor
from pock_tvm.schedules import schedule_kernel
from pock_tvm.targets import get_target

HEXAGON = "hexagon-v66"
DRIVER = Path(__file__).with_name("int8_driver.c")

# height, width, channels, filters, taps, stride, dilation
CASES = [
    (1, 19, 10, 40, 1, 1, 1),  # rows of a product: two tiles and three pixels, half a block
    (1, 8, 64, 64, 1, 1, 1),
    (1, 3, 1, 5, 1, 1, 1),
    (7, 11, 6, 33, 3, 2, 1),
    (9, 9, 5, 7, 2, 1, 3),
]


def window_of(case):
    *_, stride, dilation = case
    return Window((stride,) * 2, (0,) * 4, (dilation,) * 2, 1)


def drawn(case, batch=2):
    """Return integers of all sizes, the largest among them, and a float weight."""
    height, width, channels, filters, taps, *_ = case
    generator = np.random.default_rng(0)
    x = generator.integers(-127, 128, (batch, height, width, channels))
    x[0, 0, 0], x[-1, -1, -1] = 127, -127
    weight = generator.standard_normal((taps, min(taps, height), channels, filters))
    weight *= 10.0 ** generator.integers(-3, 3, filters)
    return x, weight.astype("float32")


def integers_of(weight, scale):
    return np.rint(weight / scale).astype("int64")


def exact(x, w, window):
    """Convolve integers in 64 bits."""
    (stride, _), (dilation, _) = window.strides, window.dilation
    kh, kw = w.shape[:2]
    oh = (x.shape[1] - dilation * (kh - 1) - 1) // stride + 1
    ow = (x.shape[2] - dilation * (kw - 1) - 1) // stride + 1
    total = np.zeros((x.shape[0], oh, ow, w.shape[3]), "int64")
    for p in range(kh):
        for q in range(kw):
            i, j = p * dilation, q * dilation
            patch = x[:, i : i + stride * (oh - 1) + 1, j : j + stride * (ow - 1) + 1]
            total += patch[:, ::stride, ::stride] @ w[p, q]
    return total


def kernel_of(case):
    x, weight = drawn(case)
    words, scale = quantize_weight(weight)
    window = window_of(case)
    filters = weight.shape[3]
    func = fuse_kernel(lambda a, b: int8_conv2d(a, b, filters, window), pack_words(x), words)
    return func, pack_words(x), words, exact(x, integers_of(weight, scale), window)


@pytest.mark.parametrize("case", CASES)
def test_sums_are_exact(case):
    func, x, words, wanted = kernel_of(case)
    (sums,) = run_kernel(func, [x, words])
    np.testing.assert_array_equal(sums, wanted)


@pytest.mark.parametrize("case", CASES)
def test_a_hexagon_multiplies_128_bytes_at_once(case):
    text = assembly(kernel_of(case)[0], HEXAGON)
    assert count(r"v\d+\.w \+= vrmpy\(v\d+\.b,v\d+\.b\)", text) >= min(case[1], 8)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_hexagon_gets_the_same_bits(case, tmp_path):
    if not shutil.which("qemu-hexagon"):
        pytest.skip("needs qemu-hexagon (Debian package qemu-user)")
    func, x, words, wanted = kernel_of(case)
    shape = tuple(int(d) for d in func.params[2].shape)
    arrays = {"x": x, "w": words, "y": np.full(shape, 0x5A5A5A5A, "int32")}
    places, offset = {}, 0
    for name, array in arrays.items():
        places[name] = offset
        offset += -(-array.nbytes // 64) * 64
    tensors = {name: Tensor(name, array.shape, "int32") for name, array in arrays.items()}
    step = Step("predict", tensors, (KernelCall("k", ("x", "w"), ("y",)),), ("x", "w"), ("y",))
    spec = get_target(HEXAGON)
    built = build_objects([step], {"predict": places}, {"k": schedule_kernel(func, spec)}, spec)
    assert built.workspace_bytes_per_thread == 0
    arena = bytearray(offset)
    for name, array in arrays.items():
        arena[places[name] : places[name] + array.nbytes] = array.tobytes()
    (tmp_path / "arena").write_bytes(arena)
    objects = [tmp_path / f"{i}.o" for i in range(len(built.objects))]
    for path, content in zip(objects, built.objects, strict=True):
        path.write_bytes(content)
    zig = (sys.executable, "-m", "ziglang", "cc", "-target", spec.zig_target, *spec.zig_options)
    command = [*zig, "-O2", str(DRIVER), *map(str, objects), "-o", str(tmp_path / "program")]
    subprocess.run(command, check=True, capture_output=True)
    run = [*spec.emulator, str(tmp_path / "program"), str(tmp_path / "arena")]
    subprocess.run(run, check=True, capture_output=True)
    sums = np.frombuffer(
        (tmp_path / "arena").read_bytes(), "int32", wanted[..., 0].size * shape[3], places["y"]
    ).reshape(shape)
    np.testing.assert_array_equal(sums, wanted)


@pytest.mark.parametrize("channels", [1, 6, 8])
def test_floats_become_words(channels):
    generator = np.random.default_rng(1)
    x = generator.standard_normal((2, 3, 5, channels)).astype("float32")
    scale = (np.abs(x).max(-1, keepdims=True) / 127).astype("float32")
    func = fuse_kernel(lambda a, s: int8_words(a, s), x, scale)
    (words,) = run_kernel(func, [x, scale])
    whole = words.view("int8")
    assert not whole[..., channels:].any()
    assert np.abs(whole).max() == 127
    # half a step, and the rounding of x / scale in float32
    wrong = np.abs(whole[..., :channels] * scale.astype("float64") - x)
    assert (wrong <= scale * (0.5 + 127 * 2**-22)).all()


def test_one_scale_may_serve_a_picture():
    x = np.random.default_rng(2).standard_normal((2, 3, 5, 4)).astype("float32")
    scale = (np.abs(x).max((1, 2, 3), keepdims=True) / 127).astype("float32")
    (words,) = run_kernel(fuse_kernel(lambda a, s: int8_words(a, s), x, scale), [x, scale])
    assert (np.abs(words.view("int8") * scale.astype("float64") - x) <= scale * 0.5001).all()


def test_each_channel_of_a_weight_has_its_scale():
    _, weight = drawn(CASES[3])
    words, scale = quantize_weight(weight)
    whole = integers_of(weight, scale)
    assert (np.abs(whole).max((0, 1, 2)) == 127).all()
    assert (np.abs(whole * scale.astype("float64") - weight) <= scale * 0.5001).all()
    back = words.transpose(0, 4, 1, 2, 3).reshape(-1, *words.shape[1:4])
    back = np.ascontiguousarray(back).view("int8")[:33, :, :, :6].transpose(1, 2, 3, 0)
    np.testing.assert_array_equal(back, whole)
    dead = np.zeros((1, 1, 4, 3), "float32")
    assert not quantize_weight(dead)[0].any()


def test_sums_become_floats():
    generator = np.random.default_rng(3)
    total = generator.integers(-(2**20), 2**20, (2, 3, 5, 7)).astype("int32")
    scale = generator.random((2, 3, 5, 1), "float32")
    weight_scale = generator.random(7, "float32")
    func = fuse_kernel(lambda t, s, w: int8_scaled(t, s, w), total, scale, weight_scale)
    (y,) = run_kernel(func, [total, scale, weight_scale])
    np.testing.assert_allclose(y, total * (scale * weight_scale), rtol=2**-23)
