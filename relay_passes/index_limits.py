"""Find which integer inputs index a table, and how long the table is.

``take`` reads row ``index`` without a check; on the device the check is made once, when a batch
arrives, against the limits found here.
"""

import tvm

from pock_tvm.relay_passes.rewrite import bindings_of, is_call_to, static_shape

KEEPS_VALUES = ("relax.reshape", "relax.astype", "relax.permute_dims", "relax.broadcast_to")
"""Operators whose output holds the values of their input and no others."""


def index_limits(mod: tvm.IRModule) -> dict[str, int]:
    """Return, by input name, the exclusive upper bound of its valid values."""
    func = mod["main"]
    source = {p: p.name for p in func.params}
    limits: dict[str, int] = {}
    for binding in bindings_of(func):
        value = binding.value
        if is_call_to(value, *KEEPS_VALUES) and value.args[0] in source:
            source[binding.var] = source[value.args[0]]
        elif is_call_to(value, "relax.take") and value.args[1] in source:
            axis = int(value.attrs.axis or 0)
            name, extent = source[value.args[1]], static_shape(value.args[0])[axis]
            limits[name] = min(extent, limits.get(name, extent))
    return limits
