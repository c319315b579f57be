"""The systems that a training step is timed on: ours and its peers, one file each."""

from benchmarks.peers.pock import Pock
from benchmarks.peers.remote import Jax, Mnn, OnnxRuntime, TensorFlow
from benchmarks.peers.task import System, Task
from benchmarks.peers.torch_compile import TorchCompile
from benchmarks.peers.torch_eager import TorchEager, TorchFolded

SYSTEMS: dict[str, type[System]] = {
    system.name: system
    for system in (
        Pock,
        TorchEager,
        TorchFolded,
        TorchCompile,
        Jax,
        TensorFlow,
        OnnxRuntime,
        Mnn,
    )
}

__all__ = ["SYSTEMS", "System", "Task"]
