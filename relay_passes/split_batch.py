"""Run the model and its loss on some samples of the batch at a time.

Before:  y = conv2d(x, w);  loss = cross_entropy(y, labels)                     # 8 samples
After:   y0 = conv2d(x[0:4], w);  l0 = cross_entropy(y0, labels[0:4])
         y1 = conv2d(x[4:8], w);  l1 = cross_entropy(y1, labels[4:8])
         loss = (n0 / n) l0 + (n1 / n) l1            # nᵢ: labels that count, of n

The loss of a part depends on that part alone, so ``DeriveBackward`` makes gradients that are sums
over the parts, w̄ = w̄0 + w̄1, and ``GroupMicroBatches`` puts each part's backward pass before the
next part's forward pass: what waits in between is a gradient, not the residuals of a batch. Run it
behind ``AppendLoss``. No number changes but by the order in which floats are added.
"""

from collections.abc import Collection

import tvm
from tvm import relax
from tvm.relax.op import add, astype, divide, greater, multiply, not_equal, where
from tvm.relax.op import sum as sum_
from tvm.relax.utils import copy_with_new_vars

from pock_tvm.errors import UnsupportedModelError
from pock_tvm.relay_passes.rewrite import bindings_of, is_call_to, returned_fields
from pock_tvm.relay_passes.split_prefix import PrefixSplit


@tvm.transform.module_pass(opt_level=0, name="SplitBatch")
class SplitBatch:
    """Split ``main`` into ``count`` parts of its samples.

    Args:
        inputs: parameters whose first axis runs over samples, by name; ``labels`` do so too.
        count: parts, a divisor of the number of samples; 1 leaves the module alone.

    Raises:
        UnsupportedModelError: samples depend on each other, or that is not known.
    """

    def __init__(self, inputs: Collection[str], count: int) -> None:
        self.inputs, self.count = {*inputs, "labels"}, count

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``."""
        if self.count == 1:
            return mod
        # A second name of a value, as AppendLoss leaves it, is no operator.
        mod = relax.transform.CanonicalizeBindings()(mod)
        main = copy_with_new_vars(mod["main"])
        values = {b.var: b.value for b in bindings_of(main)}
        (result, *rest) = returned_fields(main)
        loss = values.get(result)
        if rest or not is_call_to(loss, "pock.cross_entropy", "pock.pointwise_loss"):
            raise UnsupportedModelError("the loss is no mean over samples of one loss each")
        split = PrefixSplit(main, self.inputs, (), self.count)
        for operand in loss.args:
            if operand not in split.prefix and operand not in split.samples:
                raise UnsupportedModelError("one sample's result may depend on other samples")
        out = mod.clone()
        out["main"] = _build(split, loss)
        return out


def _build(split: PrefixSplit, loss: relax.Call) -> relax.Function:
    bb = relax.BlockBuilder()
    with bb.function("main", list(split.main.params), attrs=dict(split.main.attrs or {})):
        with bb.dataflow():
            split.emit_constants(bb)
            all_labels = loss.args[1]
            while all_labels not in split.samples:  # a view of the input
                (all_labels,) = [
                    b.value.args[0] for b in split.bindings if b.var.same_as(all_labels)
                ]
            share = _Share(bb, loss, all_labels)
            total: relax.Expr | None = None
            for index in range(split.count):
                part = split.emit_part(bb, index)
                for operand in loss.args:
                    if operand not in part:
                        part[operand] = bb.emit(split.rows(operand, index))
                operands = [part[v] for v in loss.args]
                one = bb.emit(relax.Call(loss.op, operands, loss.attrs))
                weighted = share(one, operands[1], split.count)
                total = weighted if total is None else bb.emit(add(total, weighted))
            result = bb.emit_output(relax.Tuple([total]))
        bb.emit_func_output(result)
    return bb.get()["main"]


class _Share:
    """Emits what a part's loss adds to the mean over all samples."""

    def __init__(self, bb: relax.BlockBuilder, loss: relax.Call, labels: relax.Expr) -> None:
        self.bb, self.dtype = bb, str(loss.args[0].ty.dtype)
        self.ignored = None
        if is_call_to(loss, "pock.cross_entropy"):
            self.ignored = relax.const(int(loss.attrs["ignore_index"]), str(labels.ty.dtype))
            self.whole = self.counted(labels)

    def counted(self, labels: relax.Expr) -> relax.Expr:
        counts = self.bb.emit(astype(not_equal(labels, self.ignored), self.dtype))
        return self.bb.emit(sum_(counts))

    def __call__(self, loss: relax.Expr, labels: relax.Expr, count: int) -> relax.Expr:
        if self.ignored is None:
            return self.bb.emit(multiply(loss, relax.const(1 / count, self.dtype)))
        mine = self.counted(labels)
        zero = relax.const(0, self.dtype)
        # The mean over no labels is no number.
        known = self.bb.emit(where(self.bb.emit(greater(mine, zero)), loss, zero))
        return self.bb.emit(multiply(known, self.bb.emit(divide(mine, self.whole))))
