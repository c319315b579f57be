"""What an artifact has learned, back in the module that it came from."""

from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from pock_tvm import Trainer


def take_back(trainer: Trainer, net: nn.Module, path: Path) -> None:
    """Export the weights to ``path``, a ``.safetensors``, and load them into ``net``."""
    trainer.export(path)
    loaded = net.load_state_dict(load_file(path), strict=False)
    # Every tensor has a home in the module; the module alone counts its batches.
    assert not loaded.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in loaded.missing_keys)
