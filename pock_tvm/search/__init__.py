"""What to update: measured contributions, and a search for schemes under a budget.

``search`` and its settings load TVM when they are first asked for: workers that only train do
without.
"""

import importlib
from typing import TYPE_CHECKING, Any

from pock_tvm.search.pool import LocalPool
from pock_tvm.search.samples import LabelledSamples, Samples, Split, read_npz, split

if TYPE_CHECKING:
    from pock_tvm.search.ray_pool import RayPool
    from pock_tvm.search.run_search import SearchResult, search
    from pock_tvm.search.settings import SearchSettings

__all__ = [
    "LabelledSamples",
    "LocalPool",
    "RayPool",
    "Samples",
    "SearchResult",
    "SearchSettings",
    "Split",
    "read_npz",
    "search",
    "split",
]

_HOMES = {
    "RayPool": "pock_tvm.search.ray_pool",
    "SearchResult": "pock_tvm.search.run_search",
    "SearchSettings": "pock_tvm.search.settings",
    "search": "pock_tvm.search.run_search",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
