"""Run what lies before the first trainable tensor a few samples at a time.

Before:  y = conv2d(x, w);  z = relu(y);  …training from z on…           # 8 samples
After:   y0 = conv2d(x[0:4], w);  z0 = relu(y0)
         y1 = conv2d(x[4:8], w);  z1 = relu(y1)
         z = join(z0, z1);  …

Nothing of a frozen prefix is kept but what the rest reads, so its peak shrinks with the number of
samples; no number changes, for no sample depends on another (``batch_axis`` says for which
operators that is so; the prefix ends at others). The parts are views, not copies. Run it last, when
the whole joint graph stands.
"""

from collections.abc import Collection
from math import prod

import tvm
from tvm import relax
from tvm.relax.utils import copy_with_new_vars

from pock_tvm.relay_passes.batch_axis import flat_operands, sample_operands
from pock_tvm.relay_passes.operators.rows import join_rows, rows
from pock_tvm.relay_passes.rewrite import bindings_of, is_call_to, returned_fields, static_shape
from pock_tvm.relay_passes.step import ALIGNMENT


@tvm.transform.module_pass(opt_level=0, name="SplitPrefix")
class SplitPrefix:
    """Split the prefix of ``main`` into ``count`` parts of its samples.

    Args:
        inputs: parameters whose first axis runs over samples, by name.
        changing: parameters that the step changes; what depends on them is no prefix.
        count: parts, a divisor of the number of samples; 1 leaves the module alone.
    """

    def __init__(self, inputs: Collection[str], changing: Collection[str], count: int) -> None:
        self.inputs, self.changing, self.count = inputs, changing, count

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``; without a prefix that is worth it, return it as it is."""
        if self.count == 1:
            return mod
        main = copy_with_new_vars(mod["main"])
        split = PrefixSplit(main, self.inputs, self.changing, self.count)
        if not split.is_worthwhile:
            return mod
        out = mod.clone()
        out["main"] = split.build()
        return out


class PrefixSplit:
    """What of ``main`` is computed sample by sample, and how to emit a part of it."""

    def __init__(
        self,
        main: relax.Function,
        inputs: Collection[str],
        changing: Collection[str],
        count: int,
    ) -> None:
        self.main, self.count = main, count
        self.bindings = list(bindings_of(main))
        self.samples = {p for p in main.params if p.name in inputs}
        self.constant = {p for p in main.params if p.name not in changing} - self.samples
        """Values that are the same in every step: weights, and what is computed from them alone."""
        self.prefix: dict[relax.Var, tuple[bool, ...]] = {}
        """Values computed sample by sample, each with which operands are to be split."""
        for binding in self.bindings:
            self._place(binding, self.samples)
        self.views = set[relax.Var]()
        """Views that the rest reads: their sources are joined, and viewed as a whole."""
        self.boundary = self._boundary()
        self._drop_unused()

    def _place(self, binding: relax.VarBinding, samples: set[relax.Var]) -> None:
        value = binding.value
        if not isinstance(value, relax.Call):
            return
        operands = flat_operands(value)
        read = [v for v in operands if isinstance(v, relax.Var)]
        if all(v in self.constant for v in read):
            self.constant.add(binding.var)
            return
        if not all(v in self.constant or v in samples or v in self.prefix for v in read):
            return
        split = sample_operands(value)
        if split is None or not self._divides(binding.var):
            return
        pairs = list(zip(operands, split, strict=True))
        by_sample = all(s for v, s in pairs if v in self.prefix or v in samples)
        if by_sample and all(self._divides(v) for v, s in pairs if s):
            self.prefix[binding.var] = split

    def _divides(self, value: relax.Expr) -> bool:
        shape = static_shape(value)
        return bool(shape) and shape[0] % self.count == 0

    def _boundary(self) -> list[relax.Var]:
        """Return what the rest reads of the prefix, in order."""
        read = {v for v in returned_fields(self.main) if v in self.prefix}
        for binding in reversed(self.bindings):
            if binding.var in read and is_call_to(binding.value, "relax.reshape"):
                read.remove(binding.var)
                self.views.add(binding.var)
            if binding.var not in self.prefix or binding.var in self.views:
                read.update(v for v in _operands(binding.value) if v in self.prefix)
        return [b.var for b in self.bindings if b.var in read]

    def _drop_unused(self) -> None:
        """Leave in the prefix what its boundary needs."""
        needed = set(self.boundary)
        for binding in reversed(self.bindings):
            if binding.var in needed:
                needed.update(v for v in _operands(binding.value) if v in self.prefix)
        self.prefix = {v: s for v, s in self.prefix.items() if v in needed}

    @property
    def is_worthwhile(self) -> bool:
        """Tell whether the prefix holds a layer."""
        return any(
            is_call_to(b.value, "relax.nn.conv2d", "relax.matmul")
            for b in self.bindings
            if b.var in self.prefix
        )

    def _is_aligned(self, value: relax.Expr) -> bool:
        """Tell whether each part starts where a kernel may expect a tensor to start."""
        size = prod(static_shape(value)) * tvm.DataType(str(value.ty.dtype)).bits // 8
        return size // self.count % ALIGNMENT == 0

    def build(self) -> relax.Function:
        """Return the function with its prefix in parts."""
        main = self.main
        bb = relax.BlockBuilder()
        with bb.function("main", list(main.params), attrs=dict(main.attrs or {})):
            with bb.dataflow():
                self.emit_constants(bb)
                parts = [self.emit_part(bb, index) for index in range(self.count)]
                for var in self.boundary:
                    mine = [part[var] for part in parts]
                    whole = join_rows(mine) if self._is_aligned(var) else relax.op.concat(mine, 0)
                    bb.emit_normalized(relax.VarBinding(var, bb.normalize(whole)))
                done = self.constant | self.prefix.keys() - self.views
                for binding in self.bindings:
                    if binding.var not in done:
                        bb.emit_normalized(binding)
            bb.emit_func_output(main.body.body)
        return bb.get()["main"]

    def emit_constants(self, bb: relax.BlockBuilder) -> None:
        """Emit what is the same for all parts."""
        for binding in self.bindings:
            if binding.var in self.constant:
                bb.emit_normalized(binding)

    def emit_part(self, bb: relax.BlockBuilder, index: int) -> dict[relax.Var, relax.Expr]:
        """Emit the prefix for one part of the samples."""
        part: dict[relax.Var, relax.Expr] = {}

        def operand(value: relax.Expr, is_split: bool) -> relax.Expr:  # noqa: FBT001
            if not is_split:
                return value
            if value not in part:
                part[value] = bb.emit(self.rows(value, index))
            return part[value]

        for binding in self.bindings:
            if binding.var not in self.prefix:
                continue
            call = binding.value
            split = iter(self.prefix[binding.var])
            args = []
            for arg in call.args:
                if isinstance(arg, relax.Tuple):
                    args.append(relax.Tuple([operand(f, next(split)) for f in arg.fields]))
                elif isinstance(arg.ty, relax.TensorType):
                    args.append(operand(arg, next(split)))
                elif is_call_to(call, "relax.reshape"):
                    first, *rest = static_shape(call)
                    args.append(relax.ShapeExpr([first // self.count, *rest]))
                else:
                    args.append(arg)
            part[binding.var] = bb.emit(relax.Call(call.op, args, call.attrs, call.ty_args))
        return part

    def rows(self, value: relax.Expr, index: int) -> relax.Expr:
        """Return one part of the rows of a value: a view where a kernel can load it."""
        count = static_shape(value)[0] // self.count
        if isinstance(value, relax.Var) and self._is_aligned(value):
            return rows(value, index * count, count)
        return relax.op.strided_slice(value, [0], [index * count], [(index + 1) * count])


def _operands(value: relax.Expr) -> list[relax.Expr]:
    if isinstance(value, relax.Var):
        return [value]
    if isinstance(value, relax.Tuple):
        return list(value.fields)
    return flat_operands(value) if isinstance(value, relax.Call) else []
