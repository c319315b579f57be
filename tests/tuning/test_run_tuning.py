"""Tuning end to end on a small net: found, recorded, resumed, and used by the next compilation."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from pock_tvm.compilation.kernel_sources import read_kernel_sources
from pock_tvm.errors import TuningError
from pock_tvm.record_files import read_records
from pock_tvm.schedules.recorded import recorded_decisions
from pock_tvm.targets import get_target
from pock_tvm.tuning import run_tuning as home
from pock_tvm.tuning.device import local_device
from pock_tvm.tuning.trial import Verdict

SPEC = get_target("host")


class FakeDevice:
    """A device on which nothing runs: what is measured is made up."""

    def __init__(self, name="fake", lives=10**9):
        self.name, self.lives = name, lives

    def load(self, library):
        assert library[:4] == b"\x7fELF"
        self.lives -= 1
        if self.lives < 0:
            raise RuntimeError("Connection reset by peer")
        return object()

    def tensors(self, func):
        return [None] * len(func.params)

    def results(self, _module, _func, _tensors):
        return []

    def reopen(self):
        return self.lives > 0


@pytest.fixture
def judged(monkeypatch):
    """Make up the verdicts: every third trial gains a tenth."""
    count = 0

    def judge(_device, _rules, _best, _candidate, _tensors):
        nonlocal count
        count += 1
        return Verdict(0.9, is_better=count % 3 == 0, us=90.0, rules_us=100.0)

    def profiled(artifact, _spec):
        return {c["kernel"]: 10.0 for c in artifact.plan()["train_step"]["calls"]}

    monkeypatch.setattr(home, "judge", judge)
    monkeypatch.setattr(home, "_profiled", profiled)


def tune(artifact, records, devices, trials, watch=lambda *_: None):
    told = []

    def tell(*row):
        told.append(row)
        watch(*row)

    found = home.run_tuning(
        artifact,
        SPEC,
        devices,
        trials=trials,
        records=records,
        least_share=0.0,
        is_here=True,
        progress=tell,
    )
    return found, told


def journal_of(records):
    lines = records.with_suffix(".trials.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_what_gains_is_recorded_and_a_second_run_goes_on(
    small_artifact, tmp_path, judged, monkeypatch
):
    records = tmp_path / f"{SPEC.core}.json"
    found, told = tune(small_artifact, records, [FakeDevice()], 10)
    assert found.trials == 10
    assert [row[1] for row in told if row[0] == "tune"] == list(range(1, 11))
    journal = journal_of(records)
    assert len(journal) == 10
    better = [row for row in journal if row["is_better"]]
    assert len(better) == 3
    kept = read_records(records, SPEC.core)
    assert {k: v.decision for k, v in kept.items()} == {
        row["problem"]: row["decision"] for row in better
    }
    assert {(v.before_us, v.after_us) for v in kept.values()} == {(100.0, 90.0)}
    assert found.saved_us == pytest.approx(sum(p.step_us * 0.1 for p in found.problems if p.gain))

    found, told = tune(small_artifact, records, [FakeDevice()], 16)
    assert found.trials == 16
    assert [row[1] for row in told if row[0] == "tune"] == list(range(11, 17))
    tried = [(p.text, d) for p in found.problems for d in p.seen]
    assert len(tried) == len(set(tried)) == 16

    monkeypatch.setenv("POCK_RECORDS", str(tmp_path))
    sources = read_kernel_sources(small_artifact)
    decided = recorded_decisions({name: s.func for name, s in sources.items()}, SPEC)
    assert decided
    assert set(decided.values()) <= {d for _, d in tried}


def test_a_small_problem_runs_out_of_decisions(small_artifact, tmp_path, judged, monkeypatch):
    monkeypatch.setattr(home, "propose", lambda *_: None)
    found, _ = tune(small_artifact, tmp_path / f"{SPEC.core}.json", [FakeDevice()], 5)
    assert found.trials == 0
    assert found.problems


def test_a_lost_device_leaves_its_work_to_the_others(small_artifact, tmp_path, judged):
    devices = [FakeDevice("one", lives=4), FakeDevice("two")]
    found, _ = tune(small_artifact, tmp_path / f"{SPEC.core}.json", devices, 20)
    assert found.trials == 20
    with pytest.raises(TuningError, match=r"one was lost \(Connection reset by peer\); the same"):
        tune(small_artifact, tmp_path / "new.json", [FakeDevice("one", lives=4)], 20)


def test_an_interrupted_tuner_ends_with_the_trial_under_way(small_artifact, tmp_path, judged):
    records = tmp_path / f"{SPEC.core}.json"

    def interrupt(stage, done, _total, _note):
        if stage == "tune" and done == 2:
            os.kill(os.getpid(), signal.SIGINT)

    # A shell lets what it starts in the background ignore the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            tune(small_artifact, records, [FakeDevice()], 500, interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    assert 2 <= len(journal_of(records)) < 20


def test_a_decision_that_crashes_is_not_tried_again(small_artifact, tmp_path, judged, monkeypatch):
    records = tmp_path / f"{SPEC.core}.json"

    def crash(*_):
        raise RuntimeError("Connection reset by peer")

    with monkeypatch.context() as patch:
        patch.setattr(home, "judge", crash)
        found, _ = tune(small_artifact, records, [FakeDevice()], 3)
    journal = journal_of(records)
    assert [row["ratio"] for row in journal] == [None] * 3
    crashed = {(p.text, d) for p in found.problems for d in p.seen}
    assert len(crashed) == 3
    found, _ = tune(small_artifact, records, [FakeDevice()], 12)
    assert sum(len(p.seen) for p in found.problems) == 12
    assert not records.exists() or all(
        (key, home.read_decision(dict(r.decision))) not in crashed
        for key, r in read_records(records, SPEC.core).items()
    )


def test_a_killed_tuner_loses_one_trial_at_most(small_artifact, tmp_path):
    journal = tmp_path / f"{SPEC.core}.trials.jsonl"
    code = "from pock_tvm.cli import main; main()"
    command = [sys.executable, "-c", code, "tune", str(small_artifact.directory)]
    command += ["--trials", "1000", "--least-share", "0", "--records", str(tmp_path)]
    tuner = subprocess.Popen(
        command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        for _ in range(1200):
            if journal.exists() and len(journal.read_bytes().splitlines()) >= 3:
                break
            assert tuner.poll() is None
            time.sleep(0.1)
    finally:
        os.killpg(tuner.pid, signal.SIGKILL)
        tuner.wait()
    rows = journal.read_bytes().splitlines()
    assert len(rows) >= 3
    with home.Journal(journal, home.sources_sha256(home.STAGES)) as again:
        assert len(again.rows) in (len(rows), len(rows) - 1)
    with local_device(1) as device:
        found, _ = tune(
            small_artifact, journal.parent / f"{SPEC.core}.json", [device], len(rows) + 2
        )
    assert found.trials == len(rows) + 2
