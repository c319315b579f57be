"""Fold a zero padding of pictures into the convolution that reads them.

Before:  lv = pad(x, [0, 0, 0, 0, t, b, l, r], 0);  y = conv2d(lv, w, padding=[0, 0, 0, 0])
After:   y = conv2d(x, w, padding=[t, l, b, r])

Models that keep TensorFlow's "same" padding export such pads, many of width zero. Run it before
``ConvertToChannelsLast``: the pad is expected in NCHW.
"""

import tvm
from tvm import relax

from pock_tvm.relay_passes.rewrite import is_call_to, rewrite_main


@tvm.transform.module_pass(opt_level=0, name="FoldPadIntoConv2d")
class FoldPadIntoConv2d:
    """Rewrite ``conv2d(pad(x), w)`` to ``conv2d(x, w)`` with the padding added up."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``."""
        pads: dict[relax.Var, relax.Call] = {}

        def fold(bb: relax.BlockBuilder, value: relax.Expr) -> relax.Expr:
            if is_call_to(value, "relax.nn.pad"):
                if not any(int(v) for v in value.attrs.pad_width):
                    return value.args[0]
                var = bb.emit(value)
                pads[var] = value
                return var
            if not is_call_to(value, "relax.nn.conv2d") or value.args[0] not in pads:
                return value
            pad = pads[value.args[0]]
            if not _pads_pixels_with_zero(pad) or value.attrs.data_layout != "NCHW":
                return value
            top, bottom, left, right = (int(v) for v in pad.attrs.pad_width[4:])
            attrs = value.attrs
            own = [int(v) for v in attrs.padding]
            return relax.op.nn.conv2d(
                pad.args[0],
                value.args[1],
                strides=attrs.strides,
                padding=[own[0] + top, own[1] + left, own[2] + bottom, own[3] + right],
                dilation=attrs.dilation,
                groups=attrs.groups,
                data_layout=attrs.data_layout,
                kernel_layout=attrs.kernel_layout,
                out_layout=attrs.out_layout,
            )

        return relax.transform.DeadCodeElimination()(rewrite_main(mod, fold))


def _pads_pixels_with_zero(pad: relax.Call) -> bool:
    widths = [int(v) for v in pad.attrs.pad_width]
    value = float(pad.attrs.pad_value)
    return (
        len(widths) == 8
        and not any(widths[:4])
        and value == 0.0
        and pad.attrs.pad_mode == "constant"
    )
