"""Make attention one operator, which keeps no matrix of queries times keys.

Before:  s = matmul(q, kᵀ) · c + bias;  s' = where(allowed, s, -∞);  y = matmul(softmax(s'), v)
After:   y = pock.attention(q, kᵀ, v, bias + where(allowed, 0, -∞), scale=c)

Importers write attention in these operators, ``DecomposeLayers`` too; scale, bias and mask may be
missing. It stays as it is where something else reads the scores or stands between them (dropout),
where the bias learns, or where a masked score is finite. Run it on the canonical graph, before
``DeriveBackward``.
"""

import functools
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import tvm
from tvm import relax
from tvm.ir import GenericConst
from tvm.relax import op

from pock_tvm.relay_passes.operators.attention import attention
from pock_tvm.relay_passes.rewrite import (
    bindings_of,
    is_call_to,
    rewrite_main,
    static_shape,
    variables_read,
)

Attention = Literal["full", "flash"]
"""Keep the probabilities for the backward pass, or compute them again in tiles."""

_NEVER = -1e30
"""A score below this is masked: added to any score, it is all that is left."""


@tvm.transform.module_pass(opt_level=0, name="FuseAttention")
class FuseAttention:
    """Replace softmax(q kᵀ) v by ``pock.attention``."""

    def __init__(self, learning: Sequence[str]) -> None:
        """Fuse where no parameter in ``learning`` decides a bias."""
        self.learning = frozenset(learning)

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``."""
        matcher = _Matcher(mod["main"], self.learning)
        fused = rewrite_main(mod, matcher.rule)
        return relax.transform.DeadCodeElimination()(fused) if matcher.found else mod


def attention_places(mod: tvm.IRModule) -> tuple[int, int]:
    """Count the calls of ``pock.attention``, and softmaxes that a matrix product reads."""
    values = [b.value for b in bindings_of(mod["main"])]
    softmaxes = {b.var for b in bindings_of(mod["main"]) if is_call_to(b.value, "relax.nn.softmax")}
    written_out = sum(is_call_to(v, "relax.matmul") and v.args[0] in softmaxes for v in values)
    return sum(is_call_to(v, "pock.attention") for v in values), written_out


class _Matcher:
    """Finds attention in the graph that it sees binding by binding."""

    def __init__(self, main: relax.Function, learning: frozenset[str]) -> None:
        self.found = 0
        self.bound: dict[relax.Var, relax.Call] = {}
        self.once: set[relax.Var] = set()
        """Values with a single reader."""
        self.learns: set[relax.Var] = set()
        reads = Counter(v for b in bindings_of(main) for v in variables_read(b.value))
        reads.update(variables_read(main.body.body))
        learns = {p for p in main.params if p.name in learning}
        facts = []
        for binding in bindings_of(main):
            if any(v in learns for v in variables_read(binding.value)):
                learns.add(binding.var)
            facts.append((reads[binding.var] == 1, binding.var in learns))
        self.facts = iter(facts)
        self.learning = learning

    def rule(self, bb: relax.BlockBuilder, value: relax.Expr) -> relax.Expr:
        """Pass a value on, an attention as one operator."""
        once, learns = next(self.facts)
        if not isinstance(value, relax.Call):
            return value
        fused = self._fused(bb, value)
        var = bb.emit(value if fused is None else fused)
        self.bound[var] = value
        self.once |= {var} if once else set()
        self.learns |= {var} if learns else set()
        return var

    def _fused(self, bb: relax.BlockBuilder, value: relax.Call) -> relax.Call | None:
        if not is_call_to(value, "relax.matmul"):
            return None
        softmax = self._own(value.args[0], "relax.nn.softmax")
        rank = len(value.ty.shape)
        if softmax is None or int(softmax.attrs.axis) not in (-1, rank - 1):
            return None
        scale, biases, scores = 1.0, [], softmax.args[0]
        while (product := self._own(scores, "relax.matmul")) is None:
            step = self._step(bb, scores)
            if step is None:
                return None
            scores, bias, factor = step
            if factor is not None:
                scale *= factor
            if bias is not None:
                if scale != 1.0:  # a bias before the factor would have to be scaled too
                    return None
                biases.append(bias)
        if not _same_lead(*product.args, value.args[1]):
            return None
        self.found += 1
        if len(biases) > 1:
            biases = [functools.reduce(lambda a, b: bb.emit(op.add(a, b)), biases)]
        q, k_transposed = product.args
        return attention(q, k_transposed, value.args[1], biases, scale)

    def _own(self, var: relax.Expr, *names: str) -> relax.Call | None:
        """Return the call that binds a value with a single reader, if it is one of ``names``."""
        call = self.bound.get(var) if var in self.once else None
        return call if is_call_to(call, *names) else None

    def _step(
        self, bb: relax.BlockBuilder, scores: relax.Expr
    ) -> tuple[relax.Expr, relax.Expr | None, float | None] | None:
        """Undo one operator on the scores: what it was applied to, and its bias or factor."""
        names = ("relax.multiply", "relax.divide", "relax.add", "relax.where")
        call = self._own(scores, *names)
        if call is None:
            return None
        shape = static_shape(scores)
        if is_call_to(call, "relax.where"):
            condition, *branches = call.args
            zero = relax.const(0, str(scores.ty.dtype))
            for rest, masked in (branches, branches[::-1]):
                lowest = _number(masked)
                if lowest is None or lowest > _NEVER or static_shape(rest) != shape:
                    continue
                both = [masked if branch is masked else zero for branch in branches]
                return rest, bb.emit(op.where(condition, *both)), None
            return None
        first, second = call.args
        if is_call_to(call, "relax.add"):
            for rest, bias in ((first, second), (second, first)):
                if rest in self.once and static_shape(rest) == shape and self._is_fixed(bias):
                    return rest, bias, None
            return None
        factor = _number(second)
        if factor is None or static_shape(first) != shape:
            return None
        return first, None, factor if is_call_to(call, "relax.multiply") else 1 / factor

    def _is_fixed(self, bias: relax.Expr) -> bool:
        name = bias.name if isinstance(bias, relax.Var) else ""
        return bias not in self.learns and name not in self.learning


def _number(value: relax.Expr) -> float | None:
    if not isinstance(value, GenericConst) or value.value.numpy().size != 1:
        return None
    return float(value.value.numpy().reshape(()))


def _same_lead(*operands: relax.Expr) -> bool:
    leads = {static_shape(x)[:-2] for x in operands}
    return len(leads) == 1 and all(len(static_shape(x)) >= 3 for x in operands)
