"""Give every dropout the keys that its random words come from.

Before:  main(x…):  y = pock.dropout(x);  return out
After:   main(x…, random.counter):  k = pock.dropout_keys(random.counter);  y = pock.dropout(x, k)
         c = random.counter + [0, 1];  return out, c        running_statistics = ["random.counter"]

``random.counter`` is (seed, draw). It is part of the state, as running statistics are: every batch
draws other masks, and a run that goes on from a checkpoint draws those that it would have drawn.
Run it before ``FoldConstants``, which must not compute a dropout.

An alpha dropout (Klambauer et al., "Self-normalizing neural networks", 2017) fills in the value
-λα that SELU tends to far below 0, then restores mean and variance. With q = 1 - p, v = -λα and
a = 1 / √(q (1 + p v²)):

    y = a · (q · pock.dropout(x - v, k) + v · q)
"""

import numpy as np
import tvm
from tvm import relax

from pock_tvm.relay_passes.operators.dropout import dropout, dropout_keys
from pock_tvm.relay_passes.rewrite import bindings_of, is_call_to, rewrite_main
from pock_tvm.relay_passes.vjp.broadcast import scalar

COUNTER = "random.counter"
_SELU_FLOOR = -1.0507009873554804934193349852946 * 1.6732632423543772848170429916717


@tvm.transform.module_pass(opt_level=0, name="SeedDropout")
class SeedDropout:
    """Add the parameter ``random.counter``, and its next value to the results."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``; one without dropout, or with seeded ones, stays as it is."""
        func = mod["main"]
        unseeded = [b.value for b in bindings_of(func) if _is_unseeded(b.value)]
        if not unseeded:
            return mod
        streams = 1 + max(int(call.attrs["stream"]) for call in unseeded)
        counter = relax.Var(COUNTER, relax.TensorType((2,), "int64"))
        keys: list[relax.Expr] = []
        advanced: list[relax.Expr] = []

        def seed(bb: relax.BlockBuilder, value: relax.Expr) -> relax.Expr:
            if not _is_unseeded(value):
                return value
            if not keys:
                keys.append(bb.emit(dropout_keys(counter, streams)))
                one_batch = relax.const(np.array([0, 1]), "int64")
                advanced.append(bb.emit(relax.op.add(counter, one_batch)))
            p, stream = float(value.attrs["p"]), int(value.attrs["stream"])
            shared = [int(axis) for axis in value.attrs["shared"]]
            x = value.args[0]
            if not value.attrs["alpha"] or p == 1:
                return dropout(x, keys[0], p=p, stream=stream, shared=shared)
            scale = (1 - p) * ((1 - p) * (1 + p * _SELU_FLOOR**2)) ** -0.5
            lifted = bb.emit(relax.op.subtract(x, scalar(_SELU_FLOOR, x)))
            dropped = bb.emit(dropout(lifted, keys[0], p=p, stream=stream, shared=shared))
            floored = bb.emit(relax.op.add(dropped, scalar(_SELU_FLOOR, x)))
            return relax.op.multiply(floored, scalar(scale, x))

        extended = mod.clone()
        params = [*func.params, counter]
        extended["main"] = relax.Function(params, func.body, func.ret_ty, attrs=func.attrs)
        out = rewrite_main(extended, seed, rename={counter: counter}, extra_outputs=advanced)
        before = [str(name) for name in (func.attrs or {}).get("running_statistics", [])]
        out["main"] = out["main"].with_attr("running_statistics", [*before, COUNTER])
        return out


def _is_unseeded(value: relax.Expr) -> bool:
    return is_call_to(value, "pock.dropout") and len(value.args) == 1
