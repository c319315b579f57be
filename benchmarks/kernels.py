"""Kernels against PyTorch on the same data, interleaved, one thread.

    python -m benchmarks.kernels [--filter REGEX] [--rounds N] [--precision bf16] [--json FILE]

Each line gives the GFLOP/s of ours and of PyTorch in the best round and the ratio of the times; the
JSON has the medians too. Both run in this thread, whose processor time is what is measured. Ours
carries the epilogue that the step fuses into the kernel (bias, batch norm and relu6, the SGD
update), PyTorch only the product.
"""

import argparse
import json
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tvm
from tvm import te, tirx

from pock_tvm.relay_passes.operators.conv2d import (
    Window,
    conv2d,
    conv2d_data_grad,
    conv2d_weight_grad,
)
from pock_tvm.schedules import schedule_kernel
from pock_tvm.targets import TargetSpec, get_target
from pock_tvm.targets.precision import PRECISIONS, with_precision


@dataclass(frozen=True)
class Case:
    """One kernel: the TIR function, its operands, what PyTorch runs, the expected result."""

    name: str
    flops: int
    func: Callable[[], Any]
    arrays: tuple[torch.Tensor, ...]
    reference: Callable[[], torch.Tensor]
    expected: Callable[[], torch.Tensor]


def _product(a: Any, b: Any, *, ta: bool, tb: bool) -> Any:
    *batch, m, k = a.shape
    if ta:
        m, k = k, m
    n = b.shape[-2] if tb else b.shape[-1]
    r = te.reduce_axis((0, k), "k")

    def at(*i: Any) -> Any:
        lead, row, column = i[:-2], i[-2], i[-1]
        left = a[(*lead, r, row)] if ta else a[(*lead, row, r)]
        right = b[(*lead, column, r)] if tb else b[(*lead, r, column)]
        return te.sum(left * right, axis=r)

    return te.compute((*batch, m, n), at, name="matmul", attrs={"pock.kernel": "matmul"})


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape)


def matmul_case(batch: int, m: int, n: int, k: int, form: str, epilogue: str) -> Case:
    """Return a matrix product; ``form`` is NN, NT or TN, ``epilogue`` bias, sgd or nothing."""
    ta, tb = (c == "T" for c in form)
    lead = (batch,) if batch > 1 else ()
    a, b = (
        _random(*lead, *((k, m) if ta else (m, k))),
        _random(*lead, *((n, k) if tb else (k, n))),
    )
    extra = {"bias": (_random(n),), "sgd": (_random(m, n), torch.tensor(0.1)), "": ()}[epilogue]

    def func() -> Any:
        places = [
            te.placeholder(tuple(x.shape), name=f"p{i}") for i, x in enumerate((a, b, *extra))
        ]
        y = _product(places[0], places[1], ta=ta, tb=tb)
        if epilogue == "bias":
            y = te.compute(y.shape, lambda i, j: y[i, j] + places[2][j], name="biased")
        elif epilogue == "sgd":
            w, rate = places[2:]
            y = te.compute(y.shape, lambda i, j: w[i, j] - rate() * y[i, j], name="updated")
        return te.create_prim_func([*places, y])

    x, w = (a.mT if ta else a), (b.mT if tb else b)

    def expected() -> torch.Tensor:
        y = x.double() @ w.double()
        if epilogue == "bias":
            return y + extra[0]
        return extra[0] - 0.1 * y if epilogue == "sgd" else y

    return Case(
        f"matmul {form} {'x'.join(map(str, (*lead, m, n, k)))} {epilogue}".strip(),
        2 * batch * m * n * k,
        func,
        (a, b, *extra),
        lambda: torch.matmul(x, w),
        expected,
    )


def conv_cases(
    side: int, c: int, o: int, kernel: int, stride: int = 1, groups: int = 1
) -> Iterator[Case]:
    """Yield a convolution with batch norm and relu6, and its two gradients (SGD on the weight)."""
    pad = kernel // 2
    window = Window((stride, stride), (pad,) * 4, (1, 1), groups)
    out = (side + 2 * pad - kernel) // stride + 1
    x, w = _random(1, side, side, c), _random(kernel, kernel, c // groups, o)
    ct = _random(1, out, out, o)
    scale, shift, rate = _random(o), _random(o), torch.tensor(0.1)
    xt, ct_t = x.permute(0, 3, 1, 2), ct.permute(0, 3, 1, 2)
    wt = w.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
    flops = 2 * out * out * o * (c // groups) * kernel * kernel
    label = f"{side}² {c}->{o} {kernel}x{kernel} s{stride}" + (f" g{groups}" * (groups > 1))

    def forward() -> Any:
        places = [te.placeholder(tuple(t.shape), name="p") for t in (x, w, scale, shift)]
        y = conv2d(places[0], places[1], window)
        z = te.compute(y.shape, lambda n, i, j, k: y[n, i, j, k] * places[2][k], name="scaled")
        z2 = te.compute(y.shape, lambda n, i, j, k: z[n, i, j, k] + places[3][k], name="shifted")
        z3 = te.compute(
            y.shape,
            lambda *i: tirx.max(tirx.min(z2[i], tirx.const(6.0)), tirx.const(0.0)),
            name="clipped",
        )
        return te.create_prim_func([*places, z3])

    def data() -> Any:
        places = [te.placeholder(tuple(t.shape), name="p") for t in (ct, w)]
        return te.create_prim_func(
            [*places, conv2d_data_grad(places[0], places[1], tuple(x.shape), window)]
        )

    def weight() -> Any:
        places = [te.placeholder(tuple(t.shape), name="p") for t in (x, ct, w, rate)]
        y = conv2d_weight_grad(places[0], places[1], tuple(w.shape), window)
        z = te.compute(y.shape, lambda *i: places[2][i] - places[3]() * y[i], name="updated")
        return te.create_prim_func([*places, z])

    def backward(mask: list[bool], dtype: Any = torch.float32) -> Any:
        tensors = [t.to(dtype) for t in (ct_t, xt, wt)]
        return torch.ops.aten.convolution_backward(
            *tensors,
            bias_sizes=None,
            stride=[stride] * 2,
            padding=[pad] * 2,
            dilation=[1, 1],
            transposed=False,
            output_padding=[0, 0],
            groups=groups,
            output_mask=mask,
        )

    def run(t: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(t, u, None, stride, pad, 1, groups)

    yield Case(
        f"conv {label} forward",
        flops,
        forward,
        (x, w, scale, shift),
        lambda: run(xt, wt),
        lambda: (run(xt.double(), wt.double()).permute(0, 2, 3, 1) * scale + shift).clip(0, 6),
    )
    yield Case(
        f"conv {label} data",
        flops,
        data,
        (ct, w),
        lambda: backward([True, False, False])[0],
        lambda: backward([True, False, False], torch.float64)[0].permute(0, 2, 3, 1),
    )
    yield Case(
        f"conv {label} weight",
        flops,
        weight,
        (x, ct, w, rate),
        lambda: backward([False, True, False])[1],
        lambda: w - 0.1 * backward([False, True, False], torch.float64)[1].permute(2, 3, 1, 0),
    )


MOBILENET_1X1 = (
    (112, 32, 16),
    (112, 16, 96),
    (56, 96, 24),
    (56, 24, 144),
    (56, 144, 24),
    (28, 144, 32),
    (28, 32, 192),
    (28, 192, 32),
    (14, 192, 64),
    (14, 64, 384),
    (14, 384, 64),
    (14, 384, 96),
    (14, 96, 576),
    (14, 576, 96),
    (7, 576, 160),
    (7, 160, 960),
    (7, 960, 160),
    (7, 960, 320),
    (7, 320, 1280),
)


def cases() -> Iterator[Callable[[], Iterator[Case]]]:
    """Yield the kernels of DistilBERT and MobileNetV2, and the 3x3 of ResNet, as thunks."""
    for m in (128, 256):
        for n, k in ((768, 768), (3072, 768), (768, 3072)):
            yield lambda m=m, n=n, k=k: iter(  # type: ignore[misc]
                (
                    matmul_case(1, m, n, k, "NN", "bias"),
                    matmul_case(1, m, k, n, "NT", ""),
                    matmul_case(1, k, n, m, "TN", "sgd"),
                )
            )
    for b in (12, 24):
        for n, k in ((64, 128), (128, 64)):
            for form in ("NN", "NT", "TN"):
                yield lambda b=b, n=n, k=k, form=form: iter(  # type: ignore[misc]
                    (matmul_case(b, 128, n, k, form, ""),)
                )
    for m, n, k in ((1, 1000, 1280), (2, 10, 768), (1, 2, 768), (2, 768, 768), (1, 10, 1280)):
        yield lambda m=m, n=n, k=k: iter(  # type: ignore[misc]
            (
                matmul_case(1, m, n, k, "NN", "bias"),
                matmul_case(1, m, k, n, "NT", ""),
                matmul_case(1, k, n, m, "TN", "sgd"),
            )
        )
    for side, c, o in MOBILENET_1X1:
        yield lambda s=side, c=c, o=o: conv_cases(s, c, o, 1)  # type: ignore[misc]
    yield lambda: conv_cases(224, 3, 32, 3, 2)
    yield lambda: conv_cases(56, 64, 64, 3)
    yield lambda: conv_cases(56, 64, 128, 3, 2)
    yield lambda: conv_cases(14, 256, 256, 3)
    yield lambda: conv_cases(7, 512, 512, 3)
    yield lambda: conv_cases(56, 64, 128, 1, 2)
    yield lambda: conv_cases(28, 128, 128, 3, 1, 32)


def measure(case: Case, spec: TargetSpec, rounds: int) -> dict[str, Any]:
    """Compile, check and time one kernel."""
    began = time.perf_counter()
    library = tvm.compile(schedule_kernel(case.func(), spec), target=spec.build())
    compile_s = time.perf_counter() - began
    expected = case.expected()
    out = torch.empty(expected.shape, dtype=torch.float32)
    arguments = [tvm.runtime.from_dlpack(t) for t in (*case.arrays, out)]
    kernel = library["main"]

    def ours() -> None:
        kernel(*arguments)

    ours()
    error = float((out - expected).abs().max() / expected.abs().max().clamp_min(1e-30))
    repeat = max(1, round(2e-4 / max(1e-6, case.flops / 60e9)))
    times: dict[str, list[float]] = {"ours": [], "torch": []}
    with torch.no_grad():
        for _ in range(rounds):
            for name, run in (("ours", ours), ("torch", case.reference)):
                run()
                start = time.thread_time()  # not the wall: other work may take the core
                for _ in range(repeat):
                    run()
                times[name].append((time.thread_time() - start) / repeat)
    best = {name: min(t) for name, t in times.items()}
    median = {name: statistics.median(t) for name, t in times.items()}
    return {
        "kernel": case.name,
        "precision": spec.precision,
        "gflops": round(case.flops / best["ours"] / 1e9, 1),
        "torch_gflops": round(case.flops / best["torch"] / 1e9, 1),
        "ratio": round(best["torch"] / best["ours"], 2),
        "us": round(best["ours"] * 1e6, 1),
        "torch_us": round(best["torch"] * 1e6, 1),
        "median_us": round(median["ours"] * 1e6, 1),
        "torch_median_us": round(median["torch"] * 1e6, 1),
        "relative_error": float(np.format_float_scientific(error, 2)),
        "compile_s": round(compile_s, 2),
    }


def main() -> None:
    """Print the table; write JSON lines on request."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--filter", default="", help="regular expression on the kernel's name")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--target", default="host")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of ours")
    parser.add_argument("--json", type=Path, help="append one line of JSON per kernel")
    arguments = parser.parse_args()
    spec = with_precision(get_target(arguments.target), arguments.precision)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tvm.get_global_func("runtime.config_threadpool")(1, 1)
    for thunk in cases():
        for case in thunk():
            if not re.search(arguments.filter, case.name):
                continue
            row = measure(case, spec, arguments.rounds)
            print(
                f"{row['kernel']:38} {row['gflops']:7.1f} torch {row['torch_gflops']:7.1f} "
                f"x{row['ratio']:5.2f} {row['us']:9.1f} us  err {row['relative_error']:.0e} "
                f"compile {row['compile_s']} s"
            )
            sys.stdout.flush()
            if arguments.json:
                with arguments.json.open("a") as file:
                    file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
