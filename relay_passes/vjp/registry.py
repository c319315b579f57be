"""The table of VJP rules: one rule per Relax operator."""

from collections.abc import Callable

from tvm.relax import Call, Expr, Var

Cotangents = tuple[Callable[[], Expr] | None, ...]
"""One thunk per operand; only those that lead to a trainable tensor are called.

``None`` marks an operand that no gradient flows to (indices, labels, masks).
"""

VJPRule = Callable[[Expr, Call, Var], Cotangents]
"""Rule of an operator: ``(cotangent of the output, the call, its output) -> Cotangents``."""

_RULES: dict[str, VJPRule] = {}


def register_vjp(op: str) -> Callable[[VJPRule], VJPRule]:
    """Register the decorated function as the VJP rule of ``op``."""

    def register(rule: VJPRule) -> VJPRule:
        if op in _RULES:
            raise ValueError(f"{op} already has a VJP rule: {_RULES[op].__module__}")
        _RULES[op] = rule
        return rule

    return register


def vjp_rule(op: str) -> VJPRule | None:
    """Return the rule of the operator named ``op``, or None where it has none."""
    return _RULES.get(op)


def operators_with_rules() -> frozenset[str]:
    """Return the names of all operators that can be differentiated."""
    return frozenset(_RULES)
