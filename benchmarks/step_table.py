"""Print what `benchmarks.step` saved as a table: ours beside every peer, and the fastest of them.

    python -m benchmarks.step_table benchmarks/results/2026-11-24-znver5-*.jsonl

Of several runs of one case, the last counts.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_NAMES = {
    "pock": "pock",
    "torch": "PyTorch",
    "torch-folded": "PyTorch, folded",
    "torch-compile": "torch.compile",
    "jax": "JAX",
    "tensorflow": "TensorFlow",
    "onnxruntime": "ONNX Runtime",
    "mnn": "MNN",
}
_CASE = ("model", "update", "batch", "threads")

Row = dict[str, Any]


def step_table(rows: Iterable[Row]) -> str:
    """Return Markdown: a line for each case, times in ms, memory in MB, ``x`` times as fast."""
    cases: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in rows:
        systems = cases.setdefault(tuple(row[key] for key in _CASE), {})
        if row["system"] == "pock":
            systems.clear()  # a new run begins with ours
        systems[row["system"]] = row
    present = [n for n in _NAMES if any(n in systems for systems in cases.values())]
    heads = [*_CASE, *(_NAMES[n] for n in present), "fastest peer", "peak MB", "least peer's"]
    lines = [_line(heads), _line(["---", "---", *["--:"] * (len(heads) - 2)])]
    for case, systems in sorted(cases.items()):
        peers = {n: row for n, row in systems.items() if n != "pock"}
        fastest = min(1 / row["ratio"] for row in peers.values())
        memory = [row["peak_bytes"] for row in peers.values() if row["peak_bytes"]]
        times = [f"{systems[n]['step_ms']:.1f}" if n in systems else "" for n in present]
        lines.append(
            _line(
                [
                    *(str(part) for part in case),
                    *times,
                    f"{fastest:.2f}x",
                    f"{systems['pock']['peak_bytes'] / 1e6:.0f}",
                    f"{min(memory) / 1e6:.0f}" if memory else "",
                ]
            )
        )
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table of some files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+", help="written by benchmarks.step --save")
    files = parser.parse_args().files
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    print(step_table(json.loads(line) for line in text.splitlines()), end="")


if __name__ == "__main__":
    main()
