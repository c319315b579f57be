"""Count constant indices from the start of an axis.

Before:  take(x, -1, axis=1)                    # x: [2, 8, 64]
After:   take(x, 7, axis=1)

Importers hand over the negative indices of ``x[:, -1]`` as they are, and the lowering of ``take``
computes an address from them: the row before the first is the last one of the sample before.
Indices that are computed or fed are checked when a batch arrives (``index_limits``). Run it after
``FoldConstants``.
"""

import math

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst

from pock_tvm.errors import UnsupportedModelError
from pock_tvm.relay_passes.rewrite import is_call_to, rewrite_main, static_shape


@tvm.transform.module_pass(opt_level=0, name="CanonicalizeIndices")
class CanonicalizeIndices:
    """Make the constant indices of ``relax.take`` non-negative.

    Raises:
        UnsupportedModelError: a constant index lies outside of its axis.
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``."""
        return rewrite_main(mod, lambda _bb, value: _from_the_start(value))


def _from_the_start(value: relax.Expr) -> relax.Expr:
    if not is_call_to(value, "relax.take") or not isinstance(value.args[1], GenericConst):
        return value
    x, indices = value.args
    axis, shape = value.attrs.axis, static_shape(x)
    extent = math.prod(shape) if axis is None else shape[int(axis)]
    wanted = indices.value.numpy()
    if wanted.size and not -extent <= wanted.min() <= wanted.max() < extent:
        raise UnsupportedModelError(
            f"the model takes rows {wanted.min()} to {wanted.max()} of an axis of {extent}"
        )
    if not (wanted < 0).any():
        return value
    counted = np.where(wanted < 0, wanted + extent, wanted).astype(wanted.dtype)
    new = relax.const(counted, str(wanted.dtype))
    return relax.Call(value.op, [x, new], value.attrs, value.ty_args, value.span)
