"""Update schemes: which tensors of a model learn."""

from pock_tvm.update.presets import parse_update
from pock_tvm.update.scheme import UpdateScheme, load_scheme

__all__ = ["UpdateScheme", "load_scheme", "parse_update"]
