"""Do many tasks on a Ray cluster, whose machines see this one's folders under the same names."""

import logging
import socket
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

from pock_tvm.errors import PockError
from pock_tvm.search.pool import ATTEMPTS, Result, Task
from pock_tvm.search.worker import perform


class RayPool:
    """A Ray cluster; a context manager."""

    def __init__(self, address: str) -> None:
        """Join the cluster.

        Args:
            address: ``HOST:PORT`` of its head, or ``auto`` for the one of this machine.

        Raises:
            PockError: Ray is not installed, or nobody answers there.
        """
        try:
            import ray
        except ImportError:
            raise PockError("--ray needs Ray: pip install 'pock-tvm[cluster]'") from None
        self._ray = ray
        _knock(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            first = str(error).splitlines()[0]
            raise PockError(f"no Ray cluster answers at {address}: {first}") from None

    def map(self, tasks: Mapping[str, Task]) -> Iterator[tuple[str, Result]]:
        """Yield (key, result) as they come; a task whose worker died is done again elsewhere."""
        ray = self._ray
        remote: Any = ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1)(perform)
        keys = {remote.remote(dict(task)): key for key, task in tasks.items()}
        while keys:
            (done, *_), _ = ray.wait(list(keys), num_returns=1)
            key = keys.pop(done)
            try:
                yield key, ray.get(done)
            except ray.exceptions.RayError as error:
                yield key, {"error": str(error).splitlines()[0]}

    def __enter__(self) -> "RayPool":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ray.shutdown()


def _knock(address: str) -> None:
    """Check that somebody listens: Ray itself would try for minutes, then end the process.

    Raises:
        PockError: nobody does.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return  # ``auto``, or a form that Ray resolves
    try:
        socket.create_connection((host.rpartition("/")[2], int(port)), timeout=10).close()
    except OSError as error:
        raise PockError(f"no Ray cluster answers at {address}: {error.strerror or error}") from None
