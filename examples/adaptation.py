"""Adapt a model to one user by ``pock search``; say whether the chosen scheme keeps its promise.

The promise: as accurate as the full update, within half a point, at a quarter of its transient
bytes and half of its step time; more accurate than updating biases alone, or the last tensors, that
take the same bytes. Whatever comes out is printed and written.
"""

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from torch import nn

import pock_tvm
from examples.weights import take_back
from pock_tvm.cli.progress import ProgressLine
from pock_tvm.frontend.model import ImportedModel
from pock_tvm.search import SearchSettings, search
from pock_tvm.search.samples import Samples, Split

HALF_A_POINT = 0.005
MEMORY, STEP = 0.25, 0.5

THOROUGH = SearchSettings(
    learning_rate=3e-3,
    measure="loss",
    finalists=3,
    rates=(1 / 9, 1 / 3, 1.0, 3.0, 9.0),
    profiles=2,
)
"""What the examples have in common; each says how long its runs are."""
QUICK = SearchSettings(
    learning_rate=3e-3,
    steps=4,
    seeds=1,
    measure="loss",
    samples=500,
    tried=1,
    finalists=1,
    proof_steps=6,
    proof_seeds=2,
    rates=(1.0,),
    ranked=3,
    gradient_batches=2,
    profiles=1,
)


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """A trained model, a user's samples, and how thorough to be."""

    name: str
    story: str
    """What the model has learned, and what it meets: a sentence or two for the table."""
    model: ImportedModel
    data: Split
    settings: SearchSettings
    memory: str | None = "0.25x"
    time: str | None = "0.46x"
    """Below a half: what is predicted may be off by some percent."""


class Prepare(Protocol):
    """Makes what is to be adapted."""

    def __call__(self, folder: Path, seed: int, *, fast: bool) -> Adaptation:
        """Train a model on what is general; ``fast`` asks for a small one.

        Args:
            folder: to write into.
            seed: of weights and data.
            fast: for a few steps of a small model.
        """


def pretrain(
    net: nn.Module,
    model: ImportedModel,
    samples: Samples,
    folder: Path,
    *,
    steps: int,
    learning_rate: float,
) -> None:
    """Train everything in ``net`` with pock, and take the weights back into it."""
    pock_tvm.compile(model, folder, update="full", optimizer="adamw")
    with pock_tvm.Trainer(folder, threads=2) as trainer:
        trainer.fit(
            samples.samples,
            samples.labels,
            steps=steps,
            learning_rate=learning_rate,
            schedule="linear",
        )
        take_back(trainer, net, folder.with_suffix(".safetensors"))


def adapt(adaptation: Adaptation, folder: Path) -> dict[str, Any]:
    """Search, and return the table as plain data; what an earlier call has done is taken up."""
    with ProgressLine() as tell:
        found = search(
            adaptation.model,
            adaptation.data,
            folder / f"{adaptation.name}.toml",
            memory=adaptation.memory,
            time=adaptation.time,
            settings=adaptation.settings,
            progress=tell,
        )
    return {
        **judge(found.summary),
        "name": adaptation.name,
        "story": adaptation.story,
        "samples": {
            "train": len(adaptation.data.train),
            "held out": len(adaptation.data.held_out),
            "test": len(adaptation.data.test),
        },
        "batch": adaptation.model.batch,
        "steps": adaptation.settings.proof_steps,
        "seeds": adaptation.settings.proof_seeds,
    }


def judge(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rows of the table, and which parts of the promise hold."""
    proof = {row["name"]: row for row in summary["proof"]}
    chosen, full = proof["searched 1"], proof["full"]
    shown = ("full", "bias-only", "last-k", "LoRA", "head", "searched 1")
    rows = [{"name": "before", "accuracy": summary["before"]["accuracy"], "words": "nothing"}]
    for name in shown:
        if name in proof:
            row = {**proof[name]}
            row["of_full_bytes"] = row["transient_bytes"] / full["transient_bytes"]
            row["of_full_ms"] = row["step_ms"] / full["step_ms"]
            rows.append({**row, "name": "chosen" if name == "searched 1" else name})
    rivals = {
        f"better than {name} at equal bytes": chosen["accuracy"] > proof[name]["accuracy"]
        for name in ("bias-only", "last-k")
        if name in proof
    }
    return {
        "rows": rows,
        "promise": {
            "full's accuracy - 0.5 points": chosen["accuracy"] >= full["accuracy"] - HALF_A_POINT,
            "1/4 of full's transient bytes": rows[-1]["of_full_bytes"] <= MEMORY,
            "1/2 of full's step": rows[-1]["of_full_ms"] <= STEP,
            **rivals,
        },
        "spearman": summary["ranking"]["spearman"],
        "ranked": len(summary["ranking"]["schemes"]),
    }


def as_markdown(table: Mapping[str, Any]) -> str:
    """Return the table and its judgement."""
    lines = [
        f"# {table['name']}",
        "",
        table["story"],
        "",
        f"| what learns | accuracy, {table['seeds']} seeds | transient bytes | of full's | step ms "
        "| of full's |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for row in table["rows"]:
        accuracy = f"{row['accuracy']:.1%}"
        if "step_ms" not in row:
            lines.append(f"| {row['name']} | {accuracy} | | | | |")
            continue
        lines.append(
            f"| {row['name']} | {100 * row['accuracy']:.1f} ± {100 * row['deviation']:.1f} % "
            f"| {row['transient_bytes']:,} | {row['of_full_bytes']:.0%} "
            f"| {row['step_ms']:.2f} | {row['of_full_ms']:.0%} |"
        )
    lines += ["", f"Chosen: {table['rows'][-1]['words']}.", ""]
    for part, holds in table["promise"].items():
        lines.append(f"- {part}: {'holds' if holds else '**does not hold**'}")
    sizes = ", ".join(f"{count} {what}" for what, count in table["samples"].items())
    lines += [
        "",
        f"Samples: {sizes}. {table['steps']} steps of {table['batch']} samples, AdamW; each scheme "
        "at the rate that did best on held-out samples; one thread. bias-only, last-k and LoRA: as "
        "much as takes no more bytes than the chosen scheme (weights, state and transients). "
        f"Predicted and real order of {table['ranked']} schemes: Spearman "
        f"{table['spearman']:.2f}. The whole took {table['elapsed_s'] / 60:.1f} minutes "
        f"({table['cores']} cores).",
        "",
    ]
    return "\n".join(lines)


def main(name: str, prepare: Prepare, arguments: Sequence[str] | None) -> dict[str, Any]:
    """Run an example from the command line.

    Args:
        name: of the example.
        prepare: makes what is to be adapted.
        arguments: of the command line.
    """
    parser = argparse.ArgumentParser(prog=f"python -m examples.{name}")
    parser.add_argument("--output", type=Path, default=Path(f"{name}-out"), help="folder to write")
    parser.add_argument("--results", type=Path, help="folder of the table; default: the output's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fast", action="store_true", help="a smaller model and few steps")
    options = parser.parse_args(arguments)
    results = options.results or options.output
    started = time.perf_counter()
    options.output.mkdir(parents=True, exist_ok=True)
    results.mkdir(parents=True, exist_ok=True)
    prepared = prepare(options.output, options.seed, fast=options.fast)
    if options.fast:  # without budgets: the head of a model so small takes most of a step
        prepared = replace(prepared, settings=QUICK, memory=None, time=None)
    table = {
        **adapt(prepared, options.output),
        "elapsed_s": time.perf_counter() - started,
        "cores": len(os.sched_getaffinity(0)),
        "seed": options.seed,
    }
    text = as_markdown(table)
    (results / f"adapt-{name}.md").write_text(text, encoding="utf-8")
    (results / f"adapt-{name}.json").write_text(
        json.dumps(table, indent=1) + "\n", encoding="utf-8"
    )
    print(text)
    return table
