"""Workers that die, and results that stay."""

import os
import signal
import sqlite3
import threading
import time

import pytest

from pock_tvm.errors import PockError
from pock_tvm.search.database import Database
from pock_tvm.search.pool import THREADS, LocalPool


def _bad_runs(count):
    """Tasks that end at once, each with a line of its own."""
    return {
        f"run {i}": {
            "task": "run",
            "artifact": f"/nowhere/{i}",
            "train": "",
            "measure": "",
            "steps": 1,
            "learning_rate": 0.1,
        }
        for i in range(count)
    }


def test_every_task_has_its_result():
    with LocalPool(2) as pool:
        results = dict(pool.map(_bad_runs(5)))
        pids = pool.pids
        assert dict(pool.map(_bad_runs(5))) == results
        assert pool.pids == pids  # the same workers
    assert not pool.pids
    assert set(results) == set(_bad_runs(5))
    assert "/nowhere/3 is not an artifact" in results["run 3"]["error"]


def test_no_tasks_need_no_workers():
    with LocalPool(2) as pool:
        assert list(pool.map({})) == []


def test_a_killed_worker_loses_one_run_and_the_run_is_done_again(monkeypatch):
    from pock_tvm.search import pool as pool_module

    asked = pool_module._ask
    killed = []

    def ask(worker, task):
        if not killed:
            killed.append(worker.pid)
            os.kill(worker.pid, signal.SIGKILL)
        return asked(worker, task)

    monkeypatch.setattr(pool_module, "_ask", ask)
    with LocalPool(1) as pool:
        results = dict(pool.map(_bad_runs(3)))
    assert len(killed) == 1
    assert all("is not an artifact" in r["error"] for r in results.values())


def test_a_task_whose_workers_all_die_is_marked(monkeypatch):
    from pock_tvm.search import pool as pool_module

    asked = pool_module._ask

    def ask(worker, task):
        if task["artifact"].endswith("/1"):
            os.kill(worker.pid, signal.SIGKILL)
        return asked(worker, task)

    monkeypatch.setattr(pool_module, "_ask", ask)
    with LocalPool(1) as pool:
        results = dict(pool.map(_bad_runs(3)))
    assert results["run 1"] == {"error": "its worker died 2 times"}
    assert "is not an artifact" in results["run 2"]["error"]


def test_leaving_early_ends_the_workers():
    with LocalPool(1) as pool:
        results = pool.map(_bad_runs(3))
        next(results)
        results.close()
        deadline = time.monotonic() + 20
        while pool.pids and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not pool.pids
    assert THREADS not in {thread.name for thread in threading.enumerate()}


def test_results_stay_and_the_first_one_counts(tmp_path):
    path = tmp_path / "results.sqlite"
    with Database(path) as database:
        database.put("runs", "a", {"accuracy": 0.5})
        database.put("runs", "a", {"accuracy": 0.7})
        database.put("plans", "a", {"bytes": 3})
    with Database(path) as database:
        assert database.all("runs") == {"a": {"accuracy": 0.5}}
        assert database.get("plans", "a") == {"bytes": 3}
        assert database.get("plans", "b") is None


def test_results_of_another_search_are_not_mixed_in(tmp_path):
    path = tmp_path / "results.sqlite"
    with Database(path) as database:
        database.claim({"model": "a1", "seed": 0})
        database.claim({"model": "a1", "seed": 0})
    with Database(path) as database, pytest.raises(PockError, match="another model"):
        database.claim({"model": "b2", "seed": 0})


def test_what_was_not_committed_is_rolled_back(tmp_path):
    path = tmp_path / "results.sqlite"
    with Database(path) as database:
        database.put("runs", "a", {})
    torn = sqlite3.connect(path, isolation_level=None)
    torn.execute("BEGIN")
    torn.execute("DELETE FROM results")
    torn.close()
    with Database(path) as database:
        assert database.all("runs") == {"a": {}}


def test_a_file_that_is_something_else_is_refused(tmp_path):
    path = tmp_path / "results.sqlite"
    path.write_bytes(b"something else, and long enough to be no database" * 30)
    with pytest.raises(PockError, match="cannot keep results in"):
        Database(path)
