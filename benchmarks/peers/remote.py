"""Peers in environments of their own, asked for one step at a time."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.peers.environments import python_of
from benchmarks.peers.exported import write_task
from benchmarks.peers.mnn_task import write_mnn_task
from benchmarks.peers.onnx_task import write_onnx_task
from benchmarks.peers.task import System, Task

WORKERS = Path(__file__).parent / "workers"


class Remote(System):
    """A worker process. It measures its own steps, so that the pipe between us costs it nothing.

    Between its turns it is stopped, for threads that wait for their next task by spinning would
    take a core from the system whose turn it is.
    """

    environment: ClassVar[str]

    def __init__(self, task: Task, folder: Path) -> None:
        python = python_of(self.environment)
        if python is None:
            sys.exit(
                f"{self.name} has no environment; make it with: "
                f"python -m benchmarks.peers.environments {self.environment}"
            )
        files = folder / self.name
        if not files.exists():  # left there by timing, where memory is measured
            self.write(task, files)
        # A pipe of its own for the answers: native libraries print to standard output.
        answers, theirs = os.pipe()
        self._worker = subprocess.Popen(
            [python, WORKERS / f"{self.environment}_worker.py", files, str(theirs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs],
            stderr=subprocess.PIPE if os.environ.get("POCK_QUIET_PEERS", "1") == "1" else None,
            text=True,
            env={**os.environ, "NPROC": str(task.threads), "OMP_NUM_THREADS": str(task.threads)}
            | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
        )
        os.close(theirs)
        self._answers = os.fdopen(answers, encoding="utf-8")
        self.last: dict[str, Any] = {}

    def write(self, task: Task, files: Path) -> None:
        """Write what the worker reads."""
        write_task(task, files)

    def step(self) -> float:
        """Ask for one step."""
        assert self._worker.stdin is not None
        self._worker.send_signal(signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):
            self._worker.stdin.write("step\n")
            self._worker.stdin.flush()
        line = self._answers.readline()
        if not line:
            said = self._worker.stderr.read()[-800:] if self._worker.stderr else ""
            sys.exit(f"{self.name} stopped: {said}")
        self._worker.send_signal(signal.SIGSTOP)
        self.last = json.loads(line)
        self.seconds = self.last["seconds"]
        return float(self.last["loss"])

    def peak_bytes(self) -> int:
        """Return what the worker took beyond its libraries."""
        return int(self.last["bytes"])

    def close(self) -> None:
        """End the worker."""
        assert self._worker.stdin is not None
        self._worker.send_signal(signal.SIGCONT)
        self._worker.stdin.close()
        self._worker.wait()
        if self._worker.stderr:
            self._worker.stderr.close()
        self._answers.close()

    @classmethod
    def load_libraries(cls, task: Task) -> None:
        """Do nothing: the worker has libraries of its own."""


class Jax(Remote):
    """See ``workers/jax_worker.py``."""

    name = environment = "jax"


class TensorFlow(Remote):
    """See ``workers/tensorflow_worker.py``."""

    name = environment = "tensorflow"


class OnnxRuntime(Remote):
    """See ``workers/onnxruntime_worker.py``."""

    name = environment = "onnxruntime"

    def write(self, task: Task, files: Path) -> None:
        """Write an ONNX file."""
        self.same_update = not write_onnx_task(task, files)


class Mnn(Remote):
    """See ``workers/mnn_worker.py``."""

    name = environment = "mnn"
    loss_limit = 1e-3  # for its gelu and exponential are approximations

    def write(self, task: Task, files: Path) -> None:
        """Write an ONNX file that MNN can train."""
        self.same_update = not write_mnn_task(task, files)
