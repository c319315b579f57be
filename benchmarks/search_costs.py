"""Hold what a search predicts of schemes against their artifacts: bytes exactly, milliseconds.

    python -m benchmarks.search_costs [--schemes 20] [--fast]

Plans schemes drawn at random, times the kernels of a few, predicts the step of all others, compiles
those and times them.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

import pock_tvm
from examples.digit_net import BLOCKS, TWO_BLOCKS, build
from pock_tvm.compilation.inventory import parameters_of
from pock_tvm.frontend.torch_export import import_module
from pock_tvm.search.evolve import draw
from pock_tvm.search.kernel_times import KernelTimes, most_telling, profile
from pock_tvm.search.planning import plan_scheme
from pock_tvm.search.space import Choice, Space

PROFILED = 4
OPTIONS = {"target": "host", "optimizer": "adamw", "loss": "cross_entropy"}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search_costs")
    parser.add_argument("--schemes", type=int, default=20)
    parser.add_argument("--fast", action="store_true", help="a net of two blocks")
    options = parser.parse_args()
    net = build(0, TWO_BLOCKS if options.fast else BLOCKS).eval()
    model = import_module(net, (torch.zeros(1, 1, 24, 24),), batch=8, name="digits")
    space = Space.of(parameters_of(model))
    genes = draw(space, options.schemes + PROFILED, np.random.default_rng(0))
    choices = {str(row.tolist()): Choice.of(row) for row in genes}
    plans = {k: plan_scheme(model, space.scheme(c), **OPTIONS) for k, c in choices.items()}
    with tempfile.TemporaryDirectory() as folder:

        def measured(key: str) -> tuple[dict[str, float], dict[str, int]]:
            compiled = pock_tvm.compile(
                model, Path(folder) / "art", update=space.scheme(choices[key]), optimizer="adamw"
            )
            return profile(compiled.artifact, threads=1, steps=100), compiled.report()

        known = most_telling(plans, {}, PROFILED)
        cycles = {k: c for plan in plans.values() for k, c in plan.cycles.items()}
        times = KernelTimes.of([measured(key)[0] for key in known], cycles)
        print(f"{'predicted':>10} {'planned':>10} {'ms pred.':>9} {'ms':>8}  timed before")
        errors = []
        for key in [k for k in choices if k not in known][: options.schemes]:
            plan, (found, report) = plans[key], measured(key)
            predicted, real = times.step_ms(plan), found["step_ns"] / 1e6
            errors.append(abs(predicted / real - 1))
            share = times.measured_share(plan)
            print(
                f"{plan.total_bytes:10,} {report['arena_bytes']:10,} {predicted:9.4f} {real:8.4f}"
                f"  {share:.0%}",
                flush=True,
            )
            if plan.total_bytes != report["arena_bytes"]:
                raise SystemExit("the bytes differ")
    print(f"bytes agree; median error of the time {np.median(errors):.1%}, worst {max(errors):.1%}")


if __name__ == "__main__":
    main()
