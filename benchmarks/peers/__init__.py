"""The systems that a training step is timed on: ours and its peers, one file each."""

from benchmarks.peers.pock import Pock
from benchmarks.peers.task import System, Task
from benchmarks.peers.torch_eager import TorchEager

SYSTEMS: dict[str, type[System]] = {"pock": Pock, "torch": TorchEager}

__all__ = ["SYSTEMS", "System", "Task"]
