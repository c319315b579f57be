"""A fleet of two devices for the session."""

import pytest
import rpc_fleet


@pytest.fixture(scope="session")
def fleet():
    with rpc_fleet.started() as found:
        yield found
