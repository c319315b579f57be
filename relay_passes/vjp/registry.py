"""The table of VJP rules: one rule per Relax operator."""

from collections.abc import Callable

from tvm.relax import Call, Expr, TensorType, TupleGetItem, TupleType, Var
from tvm.relax import Tuple as RelaxTuple

Cotangents = tuple[Callable[[], Expr] | None, ...]
"""One thunk per entry of ``operands(call)``; only those that lead to a trainable tensor are called.

``None`` marks an operand that no gradient flows to (indices, labels, masks).
"""

VJPRule = Callable[[Expr, Call, Var], Cotangents]
"""Rule of an operator: ``(cotangent of the output, the call, its output) -> Cotangents``.

The cotangent is a variable or a constant; of an operator with several outputs it is their Tuple.
"""

NON_DIFFERENTIABLE = frozenset(
    {
        "pock.stop_gradient",
        "relax.ceil",
        "relax.eye_like",
        "relax.floor",
        "relax.floor_divide",
        "relax.ones_like",
        "relax.round",
        "relax.shape_of",
        "relax.sign",
        "relax.trunc",
        "relax.zeros_like",
    }
)
"""Operators on floats whose derivative is zero wherever it exists, or is meant to be.

Comparisons, argmax and the like need no entry: no gradient flows through an integer or a boolean.
Nor do arange, zeros or one_hot: they have no float operand.
"""

REWRITTEN = {
    "relax.nn.conv1d": "ConvertToChannelsLast",
    "relax.nn.conv1d_transpose": "ConvertToChannelsLast",
    "relax.nn.conv2d_transpose": "ConvertToChannelsLast",
    "relax.nn.conv3d": "LowerVolumesToPictures",
    "relax.nn.conv3d_transpose": "LowerVolumesToPictures",
    **{
        f"relax.nn.{kind}_pool1d": "ConvertToChannelsLast"
        for kind in ("max", "avg", "adaptive_avg")
    },
    **{
        f"relax.nn.{kind}_pool3d": "LowerVolumesToPictures"
        for kind in ("max", "avg", "adaptive_avg")
    },
    "relax.image.resize2d": "DecomposeResize2d",
    "relax.nn.attention": "DecomposeLayers",
    "relax.nn.attention_bias": "DecomposeLayers",
    "relax.nn.batch_norm": "DecomposeBatchNorm",
    "relax.nn.instance_norm": "DecomposeLayers",
    "relax.nn.pixel_shuffle": "ConvertToChannelsLast",
}
"""Operators that need no rule: the canonical pass that writes them as others that have one."""

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


def operands(call: Call) -> list[Expr]:
    """Return the tensors that a call reads, those inside tuples one by one."""
    tensors: list[Expr] = []
    for arg in call.args:
        if isinstance(arg, RelaxTuple):
            tensors += [field for field in arg.fields if isinstance(field.ty, TensorType)]
        elif isinstance(arg.ty, TupleType):
            fields = enumerate(arg.ty.fields)
            tensors += [TupleGetItem(arg, i) for i, ty in fields if isinstance(ty, TensorType)]
        elif isinstance(arg.ty, TensorType):
            tensors.append(arg)
    return tensors
