"""Write docs/operators.md from the importers, the rules and the facts; run this file to do it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from emitted_operators import IMPORTERS
from operator_facts import LIMITS, MADE, MADE_OF_NUMBERS, REFUSED, WHOLE, WITHOUT_FLOATS

from pock_tvm.relay_passes.vjp import (
    NON_DIFFERENTIABLE,
    REWRITTEN,
    operators_with_rules,
    vjp_rule,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "operators.md"
SHOWN = 4
"""Layers to name in a cell."""

Emitted = dict[str, dict[str, set[str]]]
"""Operator -> importer -> layers that it is made of."""

_HEAD = """# Operators and their gradients

Every Relax operator that the importers can make, and what becomes of its gradient, read from the
sources of TVM's converters and of ours by `python tests/frontend/operator_document.py`; a test
fails while this page is out of date. What is neither derived, nor rewritten, nor known to have no
gradient is refused at compile time, by name and place, as soon as something before it learns:
no gradient is silently zero.

{counts}

What a converter writes with Python's `+` or `*` counts as `add` or `multiply`, which have rules.
Operators of our own that only passes make (losses, optimizers, gradients) are left out, and so are
layers beyond the first few (`…`).
"""


def emitted() -> Emitted:
    """Return everything that any importer can make."""
    found: Emitted = defaultdict(dict)
    for importer, sources in IMPORTERS.items():
        for operator, layers in sources().items():
            found[operator][importer] = layers
    return dict(sorted(found.items()))


def unexplained(found: Iterable[str]) -> list[str]:
    """Return the operators that stand in no list, and those that stand in several."""
    lists: list[Iterable[str]] = [
        operators_with_rules(),
        REWRITTEN,
        NON_DIFFERENTIABLE,
        WITHOUT_FLOATS,
        MADE_OF_NUMBERS,
        REFUSED,
    ]
    return [name for name in found if sum(name in one for one in lists) != 1]


def document() -> str:
    """Return the text of docs/operators.md."""
    found = emitted()
    ruled = {n: _rule(n) for n in found if n in operators_with_rules()}
    rewritten = {n: f"`{REWRITTEN[n]}`" for n in found if n in REWRITTEN}
    none = {
        n: "its derivative is zero wherever it exists" for n in found if n in NON_DIFFERENTIABLE
    }
    none |= {n: WHOLE for n in found if n in WITHOUT_FLOATS}
    none |= {n: MADE for n in found if n in MADE_OF_NUMBERS}
    refused = {n: REFUSED[n] for n in found if n in REFUSED}
    counts = (
        f"{len(found)} operators: {len(ruled)} with a rule, {len(rewritten)} rewritten before, "
        f"{len(none)} without a gradient to have, {len(refused)} refused."
    )
    return "\n".join(
        [
            _HEAD.format(counts=counts),
            _section("With a rule", "rule in `relay_passes/vjp/`", found, ruled),
            _section("Rewritten by a canonical pass", "pass", found, rewritten),
            _section("Without a gradient", "because", found, dict(sorted(none.items()))),
            _section("Refused where something before them learns", "because", found, refused),
        ]
    )


def _rule(name: str) -> str:
    rule = vjp_rule(name)
    assert rule is not None
    return f"`{rule.__module__.rpartition('.')[2]}.py`"


def _section(title: str, column: str, found: Emitted, rows: Mapping[str, str]) -> str:
    head = ["operator", *IMPORTERS, column, "limits"]
    lines = [f"## {title}", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, reason in rows.items():
        layers = [_layers(found[name].get(importer, set())) for importer in IMPORTERS]
        cells = [f"`{name.removeprefix('relax.')}`", *layers, reason, LIMITS.get(name, "")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _layers(names: set[str]) -> str:
    short = sorted({name.removesuffix(".default") for name in names}, key=lambda n: (len(n), n))
    return ", ".join(short[:SHOWN]) + (", …" if len(short) > SHOWN else "")


if __name__ == "__main__":
    DOCUMENT.write_text(document())
