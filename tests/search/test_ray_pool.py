"""Tasks on a real Ray of this machine."""

import os
import signal

import pytest
from test_search_pool import _bad_runs

from pock_tvm.errors import PockError
from pock_tvm.search import worker
from pock_tvm.search.ray_pool import RayPool

pytestmark = [
    pytest.mark.slow,  # starting Ray takes half a minute
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]


@pytest.fixture(scope="module")
def address():
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield cluster.address
    cluster.shutdown()


def test_every_task_has_its_result_and_a_killed_worker_loses_one_run(
    address, tmp_path, monkeypatch
):
    died = tmp_path / "died"

    def perform(task):
        if task["artifact"].endswith("/1") and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return worker.perform(task)

    monkeypatch.setattr("pock_tvm.search.ray_pool.perform", perform)
    with RayPool(address) as pool:
        results = dict(pool.map(_bad_runs(4)))
    assert died.exists()
    assert set(results) == set(_bad_runs(4))
    assert all("is not an artifact" in result["error"] for result in results.values())


def test_nobody_at_the_address():
    with pytest.raises(PockError, match="no Ray cluster answers at"):
        RayPool("127.0.0.1:1")
