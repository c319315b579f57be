"""Steps that compute each element from the same element of the weight, its slots and the gradient.

``pock.<optimizer>_step(w, slots…, g, η, shared…) -> (w', slots'…)``: one kernel, one pass over
memory, which may write where it has read.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from tvm import relax, te, tirx

from pock_tvm.optimizers import Optimizer
from pock_tvm.relay_passes.operators.registry import call_operator, register_operator


@dataclass(frozen=True)
class Element:
    """One element of everything that a step reads, as scalar expressions."""

    dtype: str
    w: Any
    g: Any
    rate: Any
    slots: Mapping[str, Any]
    shared: Mapping[str, Any]

    def number(self, value: float) -> Any:
        """Return a constant of the weight's type."""
        return tirx.const(value, self.dtype)


Step = Callable[[Any, Element], tuple[Any, dict[str, Any]]]
"""(options, element) -> new weight, new slots."""


class ElementwiseStep:
    """The operator of one optimizer: registers it, builds calls of it."""

    def __init__(self, kind: type[Optimizer], step: Step) -> None:
        self.kind, self.step = kind, step
        self.name = f"{kind.name}_step"
        self.op = register_operator(
            f"pock.{self.name}", infer_type=self._infer, legalize=self._legalize
        )

    def __call__(
        self,
        options: Optimizer,
        w: relax.Expr,
        g: relax.Expr,
        rate: relax.Expr,
        slots: Mapping[str, relax.Expr],
        shared: Mapping[str, relax.Expr],
    ) -> relax.Call:
        """Build the call: a tuple of the new weight and the new slots, in order."""
        operands = [w, *slots.values(), g, rate, *shared.values()]
        return call_operator(self.op, *operands, **asdict(options))

    def te_step(self, options: Optimizer, *tensors: te.Tensor) -> list[te.Tensor]:
        """Lower to one tensor expression of several outputs; operands as in the call."""
        w = tensors[0]
        names = list(options.slots_of(tuple(int(d) for d in w.shape)))
        slots, (g, rate, *shared) = tensors[1 : 1 + len(names)], tensors[1 + len(names) :]

        def element(*i: Any) -> tuple[Any, ...]:
            new_w, new_slots = self.step(
                options,
                Element(
                    str(w.dtype),
                    w(*i),
                    g(*i),
                    rate(),
                    {n: s(*i) for n, s in zip(names, slots, strict=True)},
                    {n: s() for n, s in zip(options.shared, shared, strict=True)},
                ),
            )
            return (new_w, *(new_slots[n] for n in names))

        return list(te.compute(w.shape, element, name=self.name))

    def _infer(self, call: relax.Call) -> relax.TupleType:
        """The step of one optimizer: the types of the weight and of its slots."""
        shape = tuple(int(d) for d in call.args[0].ty.shape)
        outputs = 1 + len(self._options(call).slots_of(shape))
        return relax.TupleType([a.ty for a in call.args[:outputs]])

    def _options(self, call: relax.Call) -> Optimizer:
        types: dict[str, Any] = {f.name: type(f.default) for f in fields(self.kind)}
        return self.kind(**{name: kind(call.attrs[name]) for name, kind in types.items()})

    def _legalize(self, bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        options = self._options(call)
        return bb.call_te(
            lambda *tensors: self.te_step(options, *tensors),
            *call.args,
            primfunc_name_hint=self.name,
        )
