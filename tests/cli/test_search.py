"""``pock search``: options, budgets and data."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "search"))
from bars_net import pictures

QUICK = ("--steps", 2, "--seeds", 1, "--samples", 200, "--proof-steps", 2, "--proof-seeds", 1)


@pytest.fixture
def data(tmp_path):
    images, labels = pictures(48)
    np.savez(tmp_path / "bars.npz", x=images, labels=labels)
    return tmp_path / "bars.npz"


def test_bad_input_is_refused_before_the_model_is_imported(refused, data, tmp_path):
    given = ("search", "bars_net:bars", "-o", tmp_path / "s.toml", "--batch", 4)
    assert "memory 'much' is no budget" in refused(*given, "--data", data, "--memory", "much")
    assert "time '3' is no budget" in refused(*given, "--data", data, "--time", "3")
    assert "cannot read" in refused(*given, "--data", tmp_path / "none.npz")
    assert not (tmp_path / "s.toml").exists()


def test_labels_that_the_head_lacks(refused, data, tmp_path):
    images, labels = pictures(48)
    np.savez(data, x=images, labels=labels * 2)
    error = refused("search", "bars_net:bars", "--data", data, "-o", tmp_path / "s.toml")
    assert "valid are 0 to 2, or -100 to ignore; for more classes compile with a new head" in error
    assert "--head 5" in error
    assert not (tmp_path / "s.toml").exists()


@pytest.mark.slow
def test_a_whole_search(pock, data, tmp_path):
    given = ("search", "bars_net:bars", "--data", data, "-o", tmp_path / "s.toml", "--batch", 4)
    result = pock(*given, *QUICK, "--memory", "0.9x", "--time", "0.95x", "--workers", 1, "--json")
    assert Path(result["scheme"]).read_text().startswith("# searched for: ")
    assert Path(result["report"]).exists()
    text = pock(*given, *QUICK, "--memory", "0.9x", "--time", "0.95x", "--workers", 1)
    assert "proof\n" in text
    assert "searched 1" in text
    compiled = pock(
        *("compile", "bars_net:bars", "-o", tmp_path / "art", "--batch", 4),
        *("--update", tmp_path / "s.toml", "--optimizer", "adamw", "--json"),
    )
    assert compiled["arena_bytes"] == result["chosen"]["total_bytes"]
