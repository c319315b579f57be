"""Graph passes: each module holds one pass, each pass maps an IRModule to an IRModule.

The folder keeps the name that the project was given when TVM's graph language was Relay. Relay left
TVM in 0.20; the passes work on Relax, its successor. ``pipeline.py`` lists them in order.
"""

if __name__ != "pock_tvm.relay_passes":
    raise ImportError("import pock_tvm.relay_passes, not relay_passes")

import tvm_ffi

from pock_tvm.errors import PockError

# An error that a pass raises crosses TVM's C++ before it reaches the caller. Only classes that TVM
# knows by name come out as they went in; the others turn into RuntimeError.
_errors: list[type[PockError]] = [PockError, *PockError.__subclasses__()]
for _error in _errors:
    tvm_ffi.register_error(_error.__name__, _error)
