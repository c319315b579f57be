"""Convert a network of pictures, sequences or volumes from NC… to N…C.

Before:  y = conv2d(x, w)  [NCHW, OIHW];  z = relu(y + b)
After:   xt = permute_dims(x, [0, 2, 3, 1]);  wt = permute_dims(w, [2, 3, 1, 0])
         yt = conv2d(xt, wt)  [NHWC, HWIO];  zt = relu(yt + b);  z = permute_dims(zt, [0, 3, 1, 2])

Channels last makes a 1x1 convolution a matrix product and lets a depthwise one vectorise over
channels, forward and backward. Every value that has a channels-last twin keeps both until the end;
those that nobody reads disappear. ``HoistParameterLayout`` then stores the weights as they are
read.

On the way, one axis becomes two, so that the kernels of pictures serve sequences: a ``conv1d`` is
a ``conv2d`` of height 1; and a transposed convolution becomes the data gradient of the convolution
that it transposes. ``channels_last_forms.py`` has the form of each operator.
"""

import tvm
from tvm import relax
from tvm.relax.op import permute_dims, reshape

from pock_tvm.relay_passes.channels_last_forms import FORMS, STARTS
from pock_tvm.relay_passes.layouts import last_to_first, to_last
from pock_tvm.relay_passes.rewrite import rewrite_main, static_shape


@tvm.transform.module_pass(opt_level=0, name="ConvertToChannelsLast")
class ConvertToChannelsLast:
    """Give every value on a path through convolutions and pools the channels-last layout."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``."""
        return relax.transform.DeadCodeElimination()(rewrite_main(mod, _Converter().convert))


class _Converter:
    """Converts one value after the other; ``twins`` maps a value to the same channels last."""

    def __init__(self) -> None:
        self.twins: dict[relax.Var, relax.Var] = {}

    def convert(self, bb: relax.BlockBuilder, value: relax.Expr) -> relax.Expr:
        if not isinstance(value, relax.Call):
            return value
        name = getattr(value.op, "name", "")
        form = STARTS.get(name)
        if form is None and any(self.has_twin(x) for x in _operands(value)):
            form = FORMS.get(name)
        last = None if form is None else form(self, bb, value)
        if last is None:
            return value
        if isinstance(value.ty, relax.TupleType):
            whole = bb.emit(last)
            return relax.Tuple(
                [self.both(bb, relax.TupleGetItem(whole, i)) for i in range(len(value.ty.fields))]
            )
        if value.ty.ndim < 3 or static_shape(bb.normalize(last)) == static_shape(value) == ():
            return last
        return self.both(bb, last)

    def has_twin(self, x: relax.Expr) -> bool:
        """Tell whether ``x`` is known channels last."""
        return isinstance(x, relax.Var) and x in self.twins

    def both(self, bb: relax.BlockBuilder, last: relax.Expr) -> relax.Var:
        """Emit a channels-last value, and the NC… view of it for readers that know no other."""
        twin = bb.emit(last)
        first = bb.emit(permute_dims(twin, last_to_first(twin.ty.ndim)))
        self.twins[first] = twin
        return first

    def last(self, bb: relax.BlockBuilder, x: relax.Expr) -> relax.Expr:
        """Return ``x`` channels last, transposed here where it is not known so."""
        return self.twins[x] if self.has_twin(x) else bb.emit(permute_dims(x, to_last(x.ty.ndim)))

    def operand(self, bb: relax.BlockBuilder, x: relax.Expr, rank: int) -> relax.Expr:
        """Return an operand of an elementwise call of ``rank`` as it broadcasts channels last."""
        if self.has_twin(x) and x.ty.ndim == rank:
            return self.twins[x]
        if not isinstance(getattr(x, "ty", None), relax.TensorType) or x.ty.ndim == 0:
            return x
        shape = (1,) * (rank - x.ty.ndim) + static_shape(x)
        if shape[0] == 1 and all(extent == 1 for extent in shape[2:]):
            return bb.emit(reshape(x, (shape[1],)))
        whole = x if x.ty.ndim == rank else bb.emit(reshape(x, shape))
        return self.last(bb, whole)


def _operands(call: relax.Call) -> list[relax.Expr]:
    """Return the operands of a call, those inside tuples one by one."""
    return [x for arg in call.args for x in (arg.fields if isinstance(arg, relax.Tuple) else [arg])]
