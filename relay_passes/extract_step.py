"""Read a lowered ``main`` as a ``Step``: kernel calls over named tensors.

Before:  lv = call_tir(matmul, (x, w));  lv1 = reshape(lv, …);  w' = call_tir(update, (w, lv1))
         return (loss, w')                                        updates = ["w"]
After:   matmul: reads x, w, writes lv;  update: reads w, lv, writes w

An output that ``updates`` names takes over the memory of its parameter. Every other call that reads
the parameter means the old value, so it is put before the update. A view (``reshape``, some rows of
a tensor) has the name of what it views and, where it starts later, a shift; the parts of
``join_rows`` are written at their shifts in the whole.
"""

import heapq
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst

from pock_tvm.relay_passes.rewrite import bindings_of, is_call_to
from pock_tvm.relay_passes.step import KernelCall, Region, Step, Tensor


@dataclass(frozen=True)
class ExtractedStep:
    """A step, the values of its constants, and the kernels it calls by name."""

    step: Step
    constants: Mapping[str, np.ndarray]
    kernels: Mapping[str, tvm.tirx.PrimFunc]


def extract_step(
    mod: tvm.IRModule,
    name: str,
    regions: Mapping[str, Region],
    outputs: tuple[str, ...],
) -> ExtractedStep:
    """Read ``main`` of ``mod``, in which only calls of kernels and ``reshape`` are left.

    Args:
        mod: lowered module.
        name: name of the entry point.
        regions: region of each parameter by name; parameters not listed are inputs.
        outputs: public names of the results that ``updates`` does not account for, in order.
    """
    return _Extractor(mod, regions).extract(name, outputs)


Place = tuple[str, int]
"""A tensor, and how many bytes behind its start."""


class _Extractor:
    def __init__(self, mod: tvm.IRModule, regions: Mapping[str, Region]) -> None:
        self.mod, self.regions = mod, regions
        self.tensors: dict[str, Tensor] = {}
        self.constants: dict[str, np.ndarray] = {}
        self.names: dict[relax.Var, Place] = {}
        self.tuples: dict[relax.Var, list[Place]] = {}
        self.joined: dict[str, Place] = {}
        """Where the parts of a whole stand in it."""
        self.calls: list[KernelCall] = []

    def extract(self, name: str, outputs: tuple[str, ...]) -> ExtractedStep:
        func = self.mod["main"]
        inputs = []
        for p in func.params:
            region = self.regions.get(p.name, "arena")
            if region == "arena":
                inputs.append(p.name)
            self.names[p] = self.declare(p.name, p.ty, region), 0
        for binding in bindings_of(func):
            self.bind(binding)
        calls = [c.moved(self.joined) for c in self.calls]
        results = [self.whole(place) for place in self.fields(func.body.body)]
        updates = [str(n) for n in (func.attrs or {}).get("updates", [])]
        # main returns (loss, updated tensors…, gradients kept for debugging…) or plain outputs
        first = 1 if updates else 0
        replaced = dict(zip(results[first:], updates, strict=False))
        public = results[:first] + results[first + len(updates) :]
        renamed = {**replaced, **dict(zip(public, outputs, strict=True))}
        calls = _updates_last(calls, replaced)
        calls = [c.renamed(renamed) for c in calls]
        for old, new in renamed.items():
            tensor = self.tensors.pop(old)
            if new not in self.tensors:
                self.tensors[new] = Tensor(new, tensor.shape, tensor.dtype)
        step = Step(name, self.tensors, tuple(calls), tuple(inputs), outputs)
        used = {c.kernel for c in calls}
        kernels = {
            var.name_hint: self.mod[var]
            for var in self.mod.get_global_vars()
            if var.name_hint in used
        }
        return ExtractedStep(step, self.constants, kernels)

    def declare(self, name: str, ty: relax.TensorType, region: Region) -> str:
        self.tensors[name] = Tensor(name, tuple(int(d) for d in ty.shape), str(ty.dtype), region)
        return name

    def bind(self, binding: relax.VarBinding) -> None:
        var, value = binding.var, binding.value
        if is_call_to(value, "relax.call_tir", "relax.call_tir_inplace"):
            self.tuples[var] = [(name, 0) for name in self.call(var, value)]
            if isinstance(var.ty, relax.TensorType):
                self.names[var] = self.tuples[var][0]
        elif is_call_to(value, "relax.reshape"):
            self.names[var] = self.operand(value.args[0])
        elif is_call_to(value, "pock.rows"):
            name, shift = self.operand(value.args[0])
            row = self.tensor_bytes(value.args[0].ty) // int(value.args[0].ty.shape[0])
            self.names[var] = name, shift + int(value.attrs["begin"]) * row
        elif is_call_to(value, "pock.join_rows"):
            self.names[var] = self.join(value), 0
        elif isinstance(value, relax.TupleGetItem):
            self.names[var] = self.fields(value.tuple_value)[value.index]
        elif isinstance(value, relax.Tuple):
            self.tuples[var] = [self.operand(f) for f in value.fields]
        elif isinstance(value, relax.Var):
            self.names[var] = self.names[value]
        elif isinstance(value, GenericConst):
            self.names[var] = self.operand(value)
        else:
            raise ValueError(f"not lowered: {value}")

    def call(self, var: relax.Var, value: relax.Call) -> list[str]:
        kernel, arguments = value.args[0].name_hint, value.args[1]
        fields = arguments.fields if isinstance(arguments, relax.Tuple) else [arguments]
        types = list(var.ty.fields) if isinstance(var.ty, relax.TupleType) else [var.ty]
        base = f"t{len(self.calls)}.{kernel}"
        names = [base if len(types) == 1 else f"{base}.{i}" for i in range(len(types))]
        written = [self.declare(n, ty, "arena") for n, ty in zip(names, types, strict=True)]
        reads = [self.operand(f) for f in fields]
        read = tuple(name for name, _ in reads)
        shifts = (*(shift for _, shift in reads), *(0 for _ in written))
        overwrites = is_call_to(value, "relax.call_tir_inplace")
        call = KernelCall(kernel, read, tuple(written), overwrites)
        self.calls.append(replace(call, shifts=shifts) if any(shifts) else call)
        return written

    def join(self, value: relax.Call) -> str:
        """Give the parts their places in a new tensor; each must be a whole result of a kernel."""
        # A join is no call, so that two may stand behind the same one.
        name = f"t{len(self.calls)}.{len(self.joined)}.joined"
        whole, start = self.declare(name, value.ty, "arena"), 0
        written = {name for call in self.calls for name in call.writes}
        for part in value.args:
            name, shift = self.operand(part)
            if shift or name in self.joined or name not in written:
                raise ValueError(f"only results of kernels can be joined: {part}")
            self.joined[name] = whole, start
            start += self.tensors.pop(name).bytes
        return whole

    def whole(self, place: Place) -> str:
        """Return the name of a result, which starts where its tensor starts."""
        name, shift = place
        if shift or name in self.joined:
            raise ValueError(f"a result is a part of another tensor: {name}")
        return name

    @staticmethod
    def tensor_bytes(ty: relax.TensorType) -> int:
        return Tensor("", tuple(int(d) for d in ty.shape), str(ty.dtype)).bytes

    def operand(self, expr: relax.Expr) -> Place:
        if isinstance(expr, GenericConst):
            value = expr.value.numpy()
            for name, known in self.constants.items():
                if known.dtype == value.dtype and np.array_equal(known, value):
                    return name, 0
            name = f"constant.{len(self.constants)}"
            self.constants[name] = value
            return self.declare(name, expr.ty, "frozen"), 0
        return self.names[expr]

    def fields(self, expr: relax.Expr) -> list[Place]:
        if isinstance(expr, relax.Tuple):
            return [self.operand(f) for f in expr.fields]
        return self.tuples[expr] if expr in self.tuples else [self.names[expr]]


def _updates_last(calls: list[KernelCall], replaced: Mapping[str, str]) -> list[KernelCall]:
    """Put each call that makes an update behind all readers of the value that it replaces.

    The order stays as it is otherwise (Kahn's algorithm, the earliest ready call first).
    """
    producers: dict[str, set[int]] = defaultdict(set)
    readers: dict[str, list[int]] = defaultdict(list)
    for time, call in enumerate(calls):
        for t in call.writes:
            producers[t].add(time)
        for t in call.reads:
            readers[t].append(time)
    before = [{p for t in call.reads for p in producers.get(t, ())} for call in calls]
    for new, parameter in replaced.items():
        (update,) = producers[new]
        before[update] |= {time for time in readers[parameter] if time != update}
    after: list[list[int]] = [[] for _ in calls]
    for time, needs in enumerate(before):
        for need in needs:
            after[need].append(time)
    waiting = [len(needs) for needs in before]
    ready = [time for time, count in enumerate(waiting) if count == 0]
    heapq.heapify(ready)
    order = []
    while ready:
        time = heapq.heappop(ready)
        order.append(calls[time])
        for later in after[time]:
            waiting[later] -= 1
            if waiting[later] == 0:
                heapq.heappush(ready, later)
    if len(order) != len(calls):
        raise ValueError(
            "an update cannot be made in place: its new value is needed beside the old"
        )
    return order
