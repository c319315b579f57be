"""A whole search of a small net: what it finds, writes, resumes and refuses."""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from bars_net import pictures, small_model

import pock_tvm
from pock_tvm.errors import BatchError, MemoryBudgetError, PockError
from pock_tvm.search.database import Database
from pock_tvm.search.run_search import search
from pock_tvm.search.samples import Samples, split
from pock_tvm.search.settings import Limit, SearchSettings, parse_memory, parse_time
from pock_tvm.search.worker import perform
from pock_tvm.update import load_scheme

SETTINGS = SearchSettings(
    learning_rate=0.02,
    steps=15,
    seeds=2,
    measure="loss",
    samples=2000,
    tried=1,
    finalists=1,
    proof_steps=20,
    proof_seeds=2,
    rates=(1.0,),
    ranked=4,
    gradient_batches=4,
    profiles=1,
)


class InlinePool:
    """Does tasks in this process, and counts them."""

    def __init__(self, spoil=None):
        self.done = []
        self.spoil = spoil or (lambda key, task: task)

    def map(self, tasks):
        for key, task in tasks.items():
            self.done.append(key)
            yield key, perform(self.spoil(key, task))


def _data(count=96):
    return Samples(*pictures(count))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    path = tmp_path_factory.mktemp("search") / "bars.toml"
    pool = InlinePool(_with_nans)
    result = search(small_model(), _data(), path, memory="0.8x", settings=SETTINGS, pool=pool)
    return result, pool


def _with_nans(key, task):
    return {**task, "learning_rate": 1e30} if key == "expand.weight at 1|0" else task


def test_what_is_predicted_is_what_is_compiled(found, tmp_path):
    summary = found[0].summary
    assert len(summary["proof"]) >= 3
    for row in summary["proof"]:
        assert row["predicted_bytes"] == row["planned_bytes"]
    scheme = load_scheme(found[0].path)
    report = pock_tvm.compile(
        small_model(), tmp_path / "art", update=scheme, optimizer="adamw"
    ).report()
    assert report["arena_bytes"] == summary["chosen"]["total_bytes"]
    assert report["transient_bytes"] == summary["chosen"]["transient_bytes"]


def test_the_choice_keeps_its_budget_and_is_the_best_that_was_planned(found):
    summary = found[0].summary
    chosen, limit = summary["chosen"], summary["budget"]["transient_bytes"]
    assert limit == 0.8 * summary["full"]["transient_bytes"]
    assert chosen["transient_bytes"] <= limit
    fitting = [row for row in summary["frontier"] if row["transient_bytes"] <= limit]
    assert chosen["predicted_gain"] == max(row["predicted_gain"] for row in fitting)
    for row in summary["search"]["seeds"]:
        assert row["evolution"] >= row["random"]
        assert row["evolution"] <= chosen["predicted_gain"] + 1e-9


def test_the_step_that_budgets_are_shares_of_is_measured(found):
    from pock_tvm.search.database import Database

    with Database(found[0].path.with_suffix(".sqlite")) as kept:
        kernels = kept.get("profiles", "full")["kernels_ns"]
        assert set(kept.get("plans", "full")["calls"]) == set(kernels)


def test_the_model_as_it_came_is_measured_on_the_samples_of_the_proof(found):
    from bars_net import small_module
    from torch import from_numpy, no_grad

    test = split(_data(), seed=SETTINGS.seed).test
    with no_grad():
        said = small_module()(from_numpy(test.samples)).argmax(1).numpy()
    assert found[0].summary["before"]["accuracy"] == pytest.approx((said == test.labels).mean())


def test_every_contribution_has_its_runs(found):
    rows = found[0].summary["contributions"]
    assert len(rows) == 1 + 4 + 4 * 4
    assert rows[0]["name"] == "head"
    assert rows[0]["gain"] == 0
    assert any(row["gain"] != 0 for row in rows)
    assert all(row["runs"] == 2 for row in rows)


def test_a_run_with_nans_is_marked_and_the_search_goes_on(found):
    result = found[0]
    assert result.summary["diverged"] == ["expand.weight at 1"]
    rows = {row["name"]: row for row in result.summary["contributions"]}
    assert rows["expand.weight at 1"]["diverged"] == 1
    assert "Runs that diverged: expand.weight at 1" in result.report.read_text()


def test_a_search_in_which_every_run_diverges_stops(tmp_path):
    wild = replace(SETTINGS, learning_rate=1e30)
    with pytest.raises(PockError, match="every run diverged at a learning rate"):
        search(small_model(), _data(), tmp_path / "wild.toml", memory="0.8x", settings=wild)
    assert not (tmp_path / "wild.toml").exists()


def test_the_page_needs_no_network_and_says_what_the_json_says(found):
    result = found[0]
    page = result.report.read_text()
    _Balanced().feed(page)
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert page.count("<svg") == 6
    assert result.summary["chosen"]["words"] in page
    assert json.loads(result.report.with_suffix(".json").read_text()) == result.summary


def test_a_second_call_does_nothing_again_and_says_the_same(found):
    result = found[0]
    pool = InlinePool()
    again = search(small_model(), _data(), result.path, memory="0.8x", settings=SETTINGS, pool=pool)
    assert not pool.done
    assert again.summary == result.summary


def test_another_compiler_plans_again_and_keeps_what_schemes_have_learned(
    found, tmp_path, monkeypatch
):
    folder = shutil.copytree(found[0].path.parent, tmp_path / "earlier")
    path = folder / found[0].path.name
    monkeypatch.setattr("pock_tvm.search.run_search.sources_sha256", lambda: "of another version")
    pool = InlinePool()
    again = search(small_model(), _data(), path, memory="0.8x", settings=SETTINGS, pool=pool)
    assert len(pool.done) == len({*pool.done})
    with Database(found[0].database) as before, Database(again.database) as after:
        assert sorted(pool.done) == sorted(before.all("plans"))
        for stage in ("contributions", "proof", "ranking", "estimators", "plans"):
            assert after.all(stage) == before.all(stage) != {}
    assert again.summary["chosen"]["words"] == found[0].summary["chosen"]["words"]


def test_results_are_of_one_version(tmp_path):
    with Database(tmp_path / "results.sqlite") as database:
        assert database.is_of("1")
        database.put("plans", "a", {"bytes": 1})
        database.put("proof", "a", {"loss": 1})
        assert not database.is_of("1")  # a file from before versions were noted
        database.renew("1", ["plans"])
        assert database.is_of("1")
        assert (database.all("plans"), database.all("proof")) == ({}, {"a": {"loss": 1}})
        database.put("plans", "a", {"bytes": 2})
        database.renew("1", ["plans"])
        assert database.all("plans") == {"a": {"bytes": 2}}
        database.renew("2", ["plans"])
        assert database.all("plans") == {}


def test_another_search_is_not_mixed_into_the_results(found):
    with pytest.raises(PockError, match="another model"):
        search(small_model_of_another_seed(), _data(), found[0].path, settings=SETTINGS)


def small_model_of_another_seed():
    import torch
    from bars_net import BATCH, small_module

    from pock_tvm.frontend.torch_export import import_module

    return import_module(small_module(1), (torch.zeros(1, 1, 8, 8),), batch=BATCH, name="other")


def test_an_impossible_budget_names_the_least_possible(found):
    before = found[0].path.read_text()
    pool = InlinePool()
    with pytest.raises(
        MemoryBudgetError, match=r"least possible is the head alone .* needs 6,\d+ bytes, not 1,00"
    ):
        search(small_model(), _data(), found[0].path, memory="1kB", settings=SETTINGS, pool=pool)
    assert not pool.done  # what was measured holds under any budget
    assert found[0].path.read_text() == before


def test_data_that_does_not_fit_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(BatchError, match="the head has 3 outputs"):
        search(
            small_model(),
            Samples(np.zeros((40, 1, 8, 8), "float32"), np.arange(40) % 5),
            tmp_path / "s.toml",
        )
    with pytest.raises(PockError, match=r"write s\.toml"):
        search(small_model(), _data(), tmp_path / "s")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["48", "-1MB", "0x", "fast", "1.5.2x", "12 parsecs"])
def test_no_budget(text):
    with pytest.raises(PockError, match="is no budget; write"):
        parse_memory(text)
    with pytest.raises(PockError, match="is no budget; write"):
        parse_time(text)


def test_budgets():
    assert parse_memory("48MB") == Limit(amount=48e6)
    assert parse_memory("1.5 KiB") == Limit(amount=1536)
    assert parse_memory("0.25x") == parse_time("0.25X") == Limit(amount=0.25, of_full=True)
    assert parse_time("12ms").amount == 12
    assert parse_time("800us").amount == pytest.approx(0.8)
    assert Limit(amount=0.5, of_full=True).against(30) == 15


_KILLED = """
import sys
sys.path.insert(0, {tests!r})
from test_search_stages import SETTINGS, _data, _with_nans
from bars_net import small_model
from pock_tvm.search.database import Database
from pock_tvm.search.run_search import search
from pock_tvm.search.pool import LocalPool
def tell(stage, done, total, note):
    print(stage, done, total, flush=True)
class Spoiling:
    def map(self, tasks):
        yield from workers.map({{key: _with_nans(key, task) for key, task in tasks.items()}})
with LocalPool(1) as workers:
    search(small_model(), _data(), {path!r}, memory="0.8x", settings=SETTINGS, pool=Spoiling(),
           progress=tell)
"""


def _started(path):
    """Start the search of ``found`` in a process of its own, which tells of its progress."""
    return subprocess.Popen(
        [sys.executable, "-c", _KILLED.format(tests=str(Path(__file__).parent), path=str(path))],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(pock_tvm.__file__).parents[1])},
    )


def _ended(process):
    process.stdout.read()
    process.stdout.close()
    return process.wait()


def _check_same(ours, theirs):
    assert ours["chosen"]["words"] == theirs["chosen"]["words"]
    for key in ("contributions", "ranking", "estimators"):
        assert _without_times(ours[key]) == _without_times(theirs[key])
    for mine, other in zip(ours["proof"], theirs["proof"], strict=True):
        assert mine["accuracies"] == other["accuracies"]


@pytest.mark.slow
def test_a_search_that_is_killed_comes_to_the_same_result(found, tmp_path):
    path = tmp_path / "killed.toml"
    generator = random.Random(7)
    stages, kills = set(), 0
    while True:
        process = _started(path)
        if kills < 2:
            for _ in range(generator.randint(2, 40)):
                line = process.stdout.readline()
                if not line:
                    break
                stages.add(line.split()[0])
            time.sleep(generator.uniform(0, 0.3))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                kills += 1
        if _ended(process) == 0:
            break
    assert kills
    assert "contributions" in stages
    _check_same(json.loads(path.with_suffix(".json").read_text()), found[0].summary)


STAGES = {
    "contributions": ("contributions", ["contributions", "estimators"]),
    "costs": ("plans", ["plans", "profiles"]),
    "search": ("search", ["plans"]),
    "proof": ("proof", ["ranking", "proof", "measured", "before"]),
}
"""What is told when a stage has begun, and what it keeps."""


@pytest.mark.long
@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_is_killed_ten_times_and_nothing_is_lost(found, tmp_path, stage):
    told, kept = STAGES[stage]
    folder = shutil.copytree(found[0].path.parent, tmp_path / "killed")
    path = folder / found[0].path.name
    generator = random.Random(stage)
    kills = 0
    while kills < 10:
        _forget_half(path.with_suffix(".sqlite"), kept, generator)
        if stage in ("contributions", "proof"):  # which compile
            shutil.rmtree(path.with_suffix(".work") / "artifacts", ignore_errors=True)
        before = _results(path.with_suffix(".sqlite"))
        process = _started(path)
        while (line := process.stdout.readline()) and not line.startswith(told):
            pass
        assert line, f"{stage} was over before it was told of"
        time.sleep(generator.uniform(0, 1))
        process.send_signal(signal.SIGKILL)
        kills += _ended(process) == -signal.SIGKILL
        after = _results(path.with_suffix(".sqlite"))
        assert before.items() <= after.items()
    path.with_suffix(".json").unlink()
    again = _started(path)
    assert _ended(again) == 0
    _check_same(json.loads(path.with_suffix(".json").read_text()), found[0].summary)


def _results(path):
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT stage, key, value FROM results")
        return {(stage, key): value for stage, key, value in rows}


def _forget_half(path, stages, generator):
    """Take away about half of what the stages have found, so that they have something to do."""
    with sqlite3.connect(path) as connection:
        for stage, key in _results(path):
            if stage in stages and generator.random() < 0.5:
                connection.execute("DELETE FROM results WHERE stage = ? AND key = ?", (stage, key))


def _without_times(value):
    if isinstance(value, dict):
        return {k: _without_times(v) for k, v in value.items() if k != "step_ms"}
    return [_without_times(v) for v in value] if isinstance(value, list) else value


class _Balanced(HTMLParser):
    """Every element is closed."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "rect", "line", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in ("rect", "line", "circle"):
            return
        assert self.open.pop() == tag
