"""A machine that measures kernels, behind TVM's RPC: one of a tracker's, or this one.

For this machine a server of our own is started on the loopback interface: a kernel that crashes
takes a process of its own with it, not the tuner.
"""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Any

import numpy as np
import tvm
from tvm import rpc, tirx

from pock_tvm.errors import TuningError
from pock_tvm.schedules.cpu.nest import find
from pock_tvm.tuning.kernel_library import FUNCTION

COLD_BYTES = 64 << 20
"""What is read and written to drive a kernel's operands out of every cache."""

_TIMEOUT_S = 10
_CONFIGURE = "runtime.config_threadpool"
_LOOPBACK = "127.0.0.1"
_KEY = "pock"


DEVICE_ERRORS = (RuntimeError, OSError, ValueError)
"""What TVM raises where a device does not do what it is asked for."""


class Device:
    """A session with one machine."""

    def __init__(self, connect: Callable[[], Any], name: str, threads: int) -> None:
        self.name = name
        self._connect, self._threads = connect, threads
        self._count = 0
        self._open()

    def reopen(self) -> bool:
        """Begin another session if a kernel has ended this one; False where none begins.

        A server has one session at a time: a living one goes on.
        """
        try:
            try:
                self._session.get_function(_CONFIGURE)(1, self._threads)
            except DEVICE_ERRORS:
                self._open()
        except DEVICE_ERRORS:
            return False
        return True

    def _open(self) -> None:
        self._session = self._connect()
        self._cpu = self._session.cpu(0)
        self._session.get_function(_CONFIGURE)(1, self._threads)

    def load(self, library: bytes) -> Any:
        """Bring a library of ``kernel_library`` there; return its module."""
        self._count += 1
        name = f"kernel{self._count}.so"
        self._session.upload(bytearray(library), name)
        module = self._session.load_module(name)
        self._session.remove(name)
        return module

    def tensors(self, func: tirx.PrimFunc) -> list[Any]:
        """Make up operands of a kernel: numbers between -1 and 1, integers zero."""
        return [self._tensor(value) for value in _operands(func)]

    def results(self, module: Any, func: tirx.PrimFunc, tensors: Sequence[Any]) -> list[np.ndarray]:
        """Run a kernel once; return all that it writes, filled with NaN before."""
        places = [i for i, p in enumerate(func.params) if _is_written(func, p)]
        values = _operands(func)
        for i in places:
            if not _is_read(func, func.params[i]):
                values[i] = np.full_like(values[i], np.nan if values[i].dtype.kind == "f" else 1)
            tensors[i].copyfrom(values[i])
        module[FUNCTION](*tensors)
        return [tensors[i].numpy() for i in places]

    def seconds(self, module: Any, tensors: Sequence[Any], *, runs: int, cold: bool) -> float:
        """Return the median time of some runs, after one that does not count."""
        flush = COLD_BYTES if cold else 0
        timer = module.time_evaluator(
            FUNCTION, self._cpu, number=1, repeat=runs, cache_flush_bytes=flush
        )
        return median(timer(*tensors).results)

    def _tensor(self, value: np.ndarray) -> Any:
        tensor = tvm.runtime.empty(value.shape, value.dtype.name, self._cpu)
        return tensor.copyfrom(value)


@contextlib.contextmanager
def local_device(threads: int) -> Iterator[Device]:
    """Yield this machine, by a server that ends with the block."""
    os.environ.setdefault("TVM_BIND_THREADS", "0")  # or its threads share the first core
    servers: list[Any] = []

    def connect() -> Any:
        # TVM's server ends with the first session that crashes.
        stop()
        servers.append(rpc.Server(_LOOPBACK, key=_KEY, silent=True))
        return rpc.connect(_LOOPBACK, servers[-1].port, _KEY)

    def stop() -> None:
        while servers:
            servers.pop().terminate()

    try:
        yield Device(connect, "this machine", threads)
    finally:
        stop()


def tracker_devices(tracker: str, key: str, threads: int) -> list[Device]:
    """Return every device of a key that a tracker has free at this moment.

    Args:
        tracker: host:port.
        key: as the servers have registered themselves.
        threads: that kernels may use there.

    Raises:
        TuningError: the tracker does not answer, or has no such device free.
    """
    host, port = parse_tracker(tracker)
    try:
        socket.create_connection((host, port), _TIMEOUT_S).close()  # TVM tries for a minute
        found = rpc.connect_tracker(host, port)
        queues = found.summary()["queue_info"]
    except (OSError, RuntimeError) as error:
        raise TuningError(
            f"no TVM RPC tracker answers at {tracker} ({last_line(error)}); start one there: "
            f"python -m tvm.exec.rpc_tracker --host 0.0.0.0 --port {port}"
        ) from None
    free = queues.get(key, {}).get("free", 0)
    if not free:
        others = ", ".join(sorted(k for k, q in queues.items() if q["free"])) or "none"
        raise TuningError(f"{tracker} has no free device of key {key!r}; free keys: {others}")

    def connect() -> Any:
        if not found.summary()["queue_info"].get(key, {}).get("free", 0):
            raise RuntimeError(f"no device of key {key!r} is free")  # a request would wait for one
        return found.request(key, max_retry=1)

    try:
        return [Device(connect, f"{key} {number + 1}", threads) for number in range(free)]
    except DEVICE_ERRORS as error:
        raise TuningError(f"{key} at {tracker} refuses: {last_line(error)}") from None


def parse_tracker(text: str) -> tuple[str, int]:
    """Read host:port.

    Raises:
        TuningError: it is something else.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise TuningError(f"{text[:60]!r} names no tracker; write host:port, as in 10.0.0.2:9190")
    return host, int(port)


def _operands(func: tirx.PrimFunc) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    found = []
    for p in func.params:
        shape, dtype = [int(n) for n in p.shape], np.dtype(str(p.dtype))
        if dtype.kind == "f":
            found.append(np.asarray(random.uniform(-1, 1, shape), dtype))
        elif dtype.name in ("bool", "uint8"):
            found.append(np.asarray(random.integers(0, 2, shape), dtype))
        else:
            found.append(np.zeros(shape, dtype))
    return found


def _is_written(func: tirx.PrimFunc, buffer: Any) -> bool:
    return any(s.buffer.same_as(buffer) for s in find(func.body, tirx.BufferStore))


def _is_read(func: tirx.PrimFunc, buffer: Any) -> bool:
    return any(n.source.same_as(buffer) for n in find(func.body, tvm.ir.TensorLoad))


def last_line(error: BaseException) -> str:
    """Return what TVM's errors say at last."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
