"""Do many tasks in processes of this machine, so that one that dies takes one task with it."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

Task = Mapping[str, Any]
Result = dict[str, Any]

ATTEMPTS = 2
"""A task whose worker died is tried once more: the worker may have been killed for its memory."""

THREADS = "pock search"
"""Name of the threads that feed the workers."""

_PACKAGE_ROOT = Path(__file__).parents[2]


class Pool(Protocol):
    """Whatever does tasks."""

    def map(self, tasks: Mapping[str, Task]) -> Iterator[tuple[str, Result]]:
        """Yield (key, result) as they come, in any order."""


class LocalPool:
    """Worker processes of this machine; a context manager."""

    def __init__(self, workers: int | None = None) -> None:
        self._count = workers or len(os.sched_getaffinity(0))
        self._lock = threading.Lock()
        self._processes: list[subprocess.Popen[str]] = []
        self._idle: list[subprocess.Popen[str]] = []
        self._stopping = False

    @property
    def pids(self) -> list[int]:
        """Of the workers that are at work."""
        with self._lock:
            return [p.pid for p in self._processes if p.poll() is None]

    def map(self, tasks: Mapping[str, Task]) -> Iterator[tuple[str, Result]]:
        """Yield (key, result) as they come."""
        self._stopping = False
        waiting: queue.SimpleQueue[tuple[str, Task] | None] = queue.SimpleQueue()
        done: queue.SimpleQueue[tuple[str, Result]] = queue.SimpleQueue()
        for item in tasks.items():
            waiting.put(item)
        count = min(self._count, len(tasks))
        threads = [
            threading.Thread(target=self._serve, args=(waiting, done), name=THREADS, daemon=True)
            for _ in range(count)
        ]
        for thread in threads:
            waiting.put(None)
            thread.start()
        complete = False
        try:
            for _ in tasks:
                yield done.get()
            complete = True
        finally:
            if not complete:
                self.close()
            for thread in threads:
                thread.join()

    def close(self) -> None:
        """End the workers, in the middle of what they do."""
        self._stopping = True
        with self._lock:
            for worker in self._processes:
                worker.kill()
            idle, self._idle = self._idle, []
        for worker in idle:
            self._retire(worker)

    def __enter__(self) -> "LocalPool":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _serve(
        self,
        waiting: "queue.SimpleQueue[tuple[str, Task] | None]",
        done: "queue.SimpleQueue[tuple[str, Result]]",
    ) -> None:
        """Feed one worker, and the one that follows it if it dies."""
        worker = self._idle_one() or self._start()
        while (item := waiting.get()) is not None and not self._stopping:
            key, task = item
            for _ in range(ATTEMPTS):
                result = _ask(worker, task)
                if result is not None or self._stopping:
                    break
                self._retire(worker)
                worker = self._start()
            done.put((key, result or {"error": f"its worker died {ATTEMPTS} times"}))
        if self._stopping:
            self._retire(worker)
        else:
            with self._lock:
                self._idle.append(worker)

    def _idle_one(self) -> "subprocess.Popen[str] | None":
        """Return a worker that has loaded its libraries already, and lives."""
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        if worker is not None and worker.poll() is not None:
            self._retire(worker)
            return None
        return worker

    def _start(self) -> "subprocess.Popen[str]":
        paths = [str(_PACKAGE_ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        worker = subprocess.Popen(
            [sys.executable, "-m", "pock_tvm.search.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )
        with self._lock:
            self._processes.append(worker)
        return worker

    def _retire(self, worker: "subprocess.Popen[str]") -> None:
        assert worker.stdin is not None
        assert worker.stdout is not None
        with suppress(OSError):  # what it was not told any more
            worker.stdin.close()
        worker.wait()
        worker.stdout.close()
        with self._lock:
            self._processes.remove(worker)


def _ask(worker: "subprocess.Popen[str]", task: Task) -> Result | None:
    """Return what the worker makes of a task, None if it has died."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        worker.stdin.write(json.dumps(task) + "\n")
        worker.stdin.flush()
        line = worker.stdout.readline()
    except OSError:
        return None
    return json.loads(line) if line.endswith("\n") else None
