"""docs/losses-and-optimizers.md names what there is, with the options and the state it has."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from pock_tvm.clipping import CLIPPINGS
from pock_tvm.losses import LOSSES
from pock_tvm.optimizers import OPTIMIZERS, RMSProp, make_optimizer

TEXT = (Path(__file__).parents[1] / "docs" / "losses-and-optimizers.md").read_text()
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S))


def _rows(section):
    """Return the table of a section by the name in its first column."""
    rows = [line.split(" | ") for line in SECTIONS[section].splitlines() if line.startswith("| `")]
    return {re.match(r"\| `([\w-]+)", row[0])[1]: row for row in rows}


@pytest.mark.parametrize(
    ("section", "known"),
    [("Losses", LOSSES), ("Optimizers", OPTIMIZERS), ("Clipping", CLIPPINGS)],
)
def test_every_name_has_a_row(section, known):
    assert list(_rows(section)) == list(known)


@pytest.mark.parametrize(
    ("section", "kind"),
    [("Losses", k) for k in LOSSES.values()] + [("Optimizers", k) for k in OPTIMIZERS.values()],
)
def test_every_option_is_named_with_its_default(section, kind):
    row = " ".join(_rows(section)[kind.name])
    everywhere = SECTIONS[section]
    for field in fields(kind):
        shown = re.search(rf"`{field.name}(?:=([^`]+))?`", row)
        shown = shown or re.search(rf"`{field.name}(?:=([^`]+))?`", everywhere)
        assert shown, field.name
        if shown[1] is not None and field.name in row:
            assert json.loads(shown[1]) == field.default


@pytest.mark.parametrize(
    ("reference", "stated"),
    [
        ("sgd", "0; with momentum 4"),
        ("sgd:momentum=0.9", "with momentum 4"),
        ("adam", "8"),
        ("adamw", "8"),
        ("lion", "4"),
        ("rmsprop", "4; centered +4; with momentum +4"),
        ("adafactor", "of a vector 4"),
    ],
)
def test_the_state_is_what_the_table_says(reference, stated):
    optimizer = make_optimizer(reference)
    assert stated in _rows("Optimizers")[optimizer.name][-1]
    held = 4 * len(optimizer.slots_of((7,)))
    assert held == int(re.findall(r"\d+", stated)[-1 if "vector" in stated else 0])


def test_what_options_add_to_the_state():
    shape = (6, 8)
    assert 4 * len(RMSProp(centered=True, momentum=0.5).slots_of(shape)) == 4 + 4 + 4
    slots = make_optimizer("adafactor").slots_of(shape)
    assert slots == {"rows": (6, 1), "columns": (1, 8)}  # 4/columns + 4/rows per parameter
