"""A TVM RPC tracker and two servers on the loopback interface, as a user starts them."""

import contextlib
import time

KEY = "two-of-a-kind"


@contextlib.contextmanager
def started():
    """Yield (host:port of the tracker, key of its two devices)."""
    from tvm import rpc
    from tvm.rpc.tracker import Tracker

    tracker = Tracker("127.0.0.1", 9390, 9490, silent=True)
    address = ("127.0.0.1", tracker.port)
    servers = [
        rpc.Server("127.0.0.1", 9290, 9390, tracker_addr=address, key=KEY, silent=True)
        for _ in range(2)
    ]
    yield f"127.0.0.1:{tracker.port}", KEY
    for server in servers:
        server.terminate()
    tracker.terminate()


def wait_for(tracker, key, count):
    """Wait until so many devices are free: a server registers again after a session."""
    from tvm import rpc

    host, _, port = tracker.partition(":")
    connection = rpc.connect_tracker(host, int(port))
    try:
        for _ in range(100):
            queues = connection.summary()["queue_info"]
            if queues.get(key, {}).get("free", 0) >= count:
                return
            time.sleep(0.1)
    finally:
        connection.close()
    raise AssertionError(queues)
