"""A TVM RPC tracker and two servers on the loopback interface, as a user starts them."""

import pytest

KEY = "two-of-a-kind"


@pytest.fixture(scope="session")
def fleet():
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
