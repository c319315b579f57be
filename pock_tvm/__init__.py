"""A compiler for sparse fine-tuning on the device.

Names are imported when they are asked for: a machine that only trains needs numpy, not TVM.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pock_tvm.errors import PockError

if TYPE_CHECKING:
    from pock_tvm.artifact.load import load_artifact
    from pock_tvm.compile import compile
    from pock_tvm.trainer import Trainer

__version__ = "0.1.0"
__all__ = ["PockError", "Trainer", "compile", "load_artifact"]

_HOMES = {
    "Trainer": "pock_tvm.trainer",
    "compile": "pock_tvm.compile",
    "load_artifact": "pock_tvm.artifact.load",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


class _Package(ModuleType):
    """Importing the module ``pock_tvm.compile`` binds it here, over the function of that name."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _HOMES or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
