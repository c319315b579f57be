"""What happens to gradients before the optimizer sees them: clipping.

A transform maps gradients by parameter name to gradients, and may keep state of its own. Without
``needs_all`` it is called with one gradient at a time, as soon as that is there; with it, once,
with all of them, and then no update can stand behind its gradient.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

from tvm import relax
from tvm.relax import Expr
from tvm.relax.op import add, divide, maximum, minimum, multiply, sqrt
from tvm.relax.op import sum as sum_

from pock_tvm.clipping import Clipping, ClipTensorNorm, ClipValue

Gradients = dict[str, Expr]
Slots = dict[str, Expr]

NORM_EPSILON = 1e-6
"""Added to a norm before dividing by it, as PyTorch does."""


class GradientTransform(Protocol):
    """One stage between the gradients and the updates."""

    needs_all: ClassVar[bool]

    def slot_types(self, weights: Sequence[relax.Var]) -> Mapping[str, relax.TensorType]:
        """Return the tensors that it keeps between steps, by full name, ``optimizer.…``."""

    def apply(
        self, bb: relax.BlockBuilder, gradients: Gradients, slots: Slots
    ) -> tuple[Gradients, Slots]:
        """Emit the new gradients and the new values of the slots that belong to them."""


class _Stateless:
    """A transform that keeps nothing."""

    needs_all: ClassVar[bool] = False

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def slot_types(self, weights: Sequence[relax.Var]) -> Mapping[str, relax.TensorType]:
        """Nothing."""
        return {}

    def apply(
        self, bb: relax.BlockBuilder, gradients: Gradients, slots: Slots
    ) -> tuple[Gradients, Slots]:
        """Clip."""
        return self.clipped(bb, gradients), {}

    def clipped(self, bb: relax.BlockBuilder, gradients: Gradients) -> Gradients:
        """Emit the clipped gradients."""
        raise NotImplementedError


class ClipEachValue(_Stateless):
    """g ← min(max(g, -c), c)."""

    def clipped(self, bb: relax.BlockBuilder, gradients: Gradients) -> Gradients:
        """Emit one elementwise expression, which fuses with the update."""
        return {
            name: bb.emit(maximum(minimum(g, _number(self.limit, g)), _number(-self.limit, g)))
            for name, g in gradients.items()
        }


class ClipEachNorm(_Stateless):
    """g ← g · min(1, c / (‖g‖₂ + ε)) tensor by tensor."""

    def clipped(self, bb: relax.BlockBuilder, gradients: Gradients) -> Gradients:
        """Emit the norm of each, and its product."""
        return {
            name: bb.emit(multiply(g, _scale(bb, bb.emit(_sum_of_squares(g)), self.limit)))
            for name, g in gradients.items()
        }


class ClipAllNorms(_Stateless):
    """g ← g · min(1, c / (‖all‖₂ + ε)); the squares are added in the order of the parameters."""

    needs_all: ClassVar[bool] = True

    def clipped(self, bb: relax.BlockBuilder, gradients: Gradients) -> Gradients:
        """Emit one scale for all."""
        squares = [bb.emit(_sum_of_squares(g)) for g in gradients.values()]
        total = functools.reduce(lambda a, b: bb.emit(add(a, b)), squares)
        scale = _scale(bb, total, self.limit)
        return {name: bb.emit(multiply(g, scale)) for name, g in gradients.items()}


def clipping_transform(clipping: Clipping) -> GradientTransform:
    """Return the transform that a description asks for."""
    if isinstance(clipping, ClipValue):
        return ClipEachValue(clipping.limit)
    if isinstance(clipping, ClipTensorNorm):
        return ClipEachNorm(clipping.limit)
    return ClipAllNorms(clipping.limit)


def _sum_of_squares(g: Expr) -> Expr:
    return sum_(multiply(g, g))


def _scale(bb: relax.BlockBuilder, square: Expr, limit: float) -> Expr:
    norm = add(sqrt(square), _number(NORM_EPSILON, square))
    return bb.emit(minimum(divide(_number(limit, square), norm), _number(1.0, square)))


def _number(value: float, like: Expr) -> Expr:
    return relax.const(value, str(like.ty.dtype))
