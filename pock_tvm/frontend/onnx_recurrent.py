"""ONNX's recurrent layers, one step after the other: LSTM, GRU and RNN.

TVM's converters have none of them. The products with the input are one matrix product over all
steps; what remains for each step is the product with the state, and the gates. A sequence that has
ended keeps its state and puts out zeros.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from tvm import relax
from tvm.relax import Expr, op

from pock_tvm.relay_passes.vjp.broadcast import dtype_of, shape_of

Operands = list[Expr | None]
Activation = Callable[[Expr], Expr]

_ACTIVATIONS: dict[str, Activation] = {"relu": op.nn.relu, "sigmoid": op.sigmoid, "tanh": op.tanh}

Step = Callable[["_Direction", Expr, list[Expr]], list[Expr]]
"""(direction, what the input adds to the gates, state) -> the next state, the output first."""

_STANDARD = {
    "GRU": ("sigmoid", "tanh"),
    "LSTM": ("sigmoid", "tanh", "tanh"),
    "RNN": ("tanh",),
}
"""The activations of a direction that names none."""


@dataclass(frozen=True)
class _Direction:
    """One direction of a layer: what each of its steps needs."""

    bb: relax.BlockBuilder
    activations: tuple[Activation, ...]
    clip: float | None
    weight: Expr
    """Rᵀ, [H, G·H] for G gates."""
    bias: Expr | None
    """[G·H], where it has to stand beside the product with the state."""
    peepholes: list[Expr]
    """[H] each, of the gates i, o and f; or none."""

    def act(self, k: int, x: Expr) -> Expr:
        """Apply the k-th activation, to an argument that is bounded where the layer says so."""
        if self.clip is not None:
            x = self.bb.emit(op.clip(x, -self.clip, self.clip))
        return self.bb.emit(self.activations[k](x))

    def gates(self, x: Expr, count: int) -> list[Expr]:
        """Cut [N, G·H] into its gates."""
        parts = self.bb.emit(op.split(x, count, 1)) if count > 1 else x
        if count == 1:
            return [parts]
        return [self.bb.emit(relax.TupleGetItem(parts, k)) for k in range(count)]

    def recur(self, h: Expr) -> Expr:
        """Return h Rᵀ + b for all gates."""
        product = self.bb.emit(op.matmul(h, self.weight))
        return product if self.bias is None else self.bb.emit(product + self.bias)

    def peep(self, k: int, gate: Expr, c: Expr) -> Expr:
        """Let a gate see the cell."""
        if not self.peepholes:
            return gate
        return self.bb.emit(gate + self.bb.emit(self.peepholes[k] * c))


def _lstm_step(d: _Direction, x: Expr, state: list[Expr]) -> list[Expr]:
    """c' = f c + i g; h' = o tanh(c'); the gates stand in ONNX's order i, o, f, g."""
    h, c = state
    emit = d.bb.emit
    i, o, f, g = d.gates(emit(x + d.recur(h)), 4)
    i, f = d.act(0, d.peep(0, i, c)), d.act(0, d.peep(2, f, c))
    c = emit(emit(f * c) + emit(i * d.act(1, g)))
    o = d.act(0, d.peep(1, o, c))
    return [emit(o * emit(d.activations[2](c))), c]


def _gru_step(linear_before_reset: bool, d: _Direction, x: Expr, state: list[Expr]) -> list[Expr]:  # noqa: FBT001
    """h' = z h + (1 - z) n; n = tanh(x + r (h Rᵀ + b)), or tanh(x + (r h) Rᵀ + b)."""
    (h,) = state
    emit = d.bb.emit
    z_x, r_x, n_x = d.gates(x, 3)
    if linear_before_reset:
        z_h, r_h, n_h = d.gates(d.recur(h), 3)
    else:
        parts = emit(op.split(d.weight, 3, 1))
        of_z, of_r, of_n = (emit(relax.TupleGetItem(parts, k)) for k in range(3))
        z_h, r_h = emit(op.matmul(h, of_z)), emit(op.matmul(h, of_r))
    z, r = d.act(0, emit(z_x + z_h)), d.act(0, emit(r_x + r_h))
    n_h = emit(r * n_h) if linear_before_reset else emit(op.matmul(emit(r * h), of_n))
    n = d.act(1, emit(n_x + n_h))
    return [emit(n + emit(z * emit(h - n)))]


def _rnn_step(d: _Direction, x: Expr, state: list[Expr]) -> list[Expr]:
    """h' = tanh(x + h Rᵀ)."""
    (h,) = state
    return [d.act(0, d.bb.emit(x + d.recur(h)))]


def _names(kind: str, attrs: Mapping[str, Any], k: int) -> list[str]:
    """Return the activations of direction ``k``."""
    listed = [name.decode().lower() for name in attrs.get("activations", [])]
    width = len(_STANDARD[kind])
    names = listed[k * width : (k + 1) * width] or list(_STANDARD[kind])
    unknown = sorted({name for name in names if name not in _ACTIVATIONS})
    if unknown:
        raise ValueError(f"activations {', '.join(unknown)}; known: {', '.join(_ACTIVATIONS)}")
    return names


class _Layer:
    """A node: its operands, direction by direction."""

    def __init__(
        self, kind: str, bb: relax.BlockBuilder, inputs: Operands, attrs: Mapping[str, Any]
    ) -> None:
        operands: Operands = [*inputs, *[None] * (8 - len(inputs))]
        self.x, self.w, self.r, self.b, self.lengths, h, c, self.peepholes = operands
        self.kind, self.bb, self.attrs = kind, bb, attrs
        self.initial = [h, c] if kind == "LSTM" else [h]
        self.batch_first = bool(attrs.get("layout", 0))
        if self.batch_first:
            self.x = bb.emit(op.permute_dims(self.x, [1, 0, 2]))
        self.count, self.batch, self.features = shape_of(self.x)
        self.directions, _, self.hidden = shape_of(self.r)
        self.inner_bias = kind == "GRU" and bool(attrs.get("linear_before_reset", 0))
        steps: dict[str, Step] = {
            "GRU": partial(_gru_step, self.inner_bias),
            "LSTM": _lstm_step,
            "RNN": _rnn_step,
        }
        self.step = steps[kind]

    def part(self, value: Expr, k: int, axis: int = 0) -> Expr:
        """Return what belongs to direction ``k``, without the axis of directions."""
        if self.directions > 1:
            value = self.bb.emit(op.strided_slice(value, [axis], [k], [k + 1]))
        return self.bb.emit(op.squeeze(value, [axis]))

    def direction(self, k: int) -> tuple[_Direction, list[Expr]]:
        """Return direction ``k``, and what the input adds to the gates of each step, [N, G·H]."""
        emit = self.bb.emit
        w, r = (emit(op.permute_dims(self.part(v, k), [1, 0])) for v in (self.w, self.r))
        rows = emit(op.reshape(self.x, (self.count * self.batch, self.features)))
        added = emit(op.matmul(rows, w))
        inner = None
        if self.b is not None:
            halves = emit(op.split(self.part(self.b, k), 2, 0))
            outer, inner = (emit(relax.TupleGetItem(halves, half)) for half in (0, 1))
            if not self.inner_bias:
                outer, inner = emit(outer + inner), None
            added = emit(added + outer)
        peepholes = []
        if self.peepholes is not None:
            parts = emit(op.split(self.part(self.peepholes, k), 3, 0))
            peepholes = [emit(relax.TupleGetItem(parts, gate)) for gate in range(3)]
        activations = tuple(_ACTIVATIONS[n] for n in _names(self.kind, self.attrs, k))
        clip = float(self.attrs["clip"]) if "clip" in self.attrs else None
        direction = _Direction(self.bb, activations, clip, r, inner, peepholes)
        if self.count == 1:
            return direction, [added]
        steps = emit(op.split(added, self.count, 0))
        return direction, [emit(relax.TupleGetItem(steps, t)) for t in range(self.count)]

    def start(self, k: int) -> list[Expr]:
        """Return the state that direction ``k`` begins with."""
        dtype = dtype_of(self.x)
        zeros = op.zeros((self.batch, self.hidden), dtype)
        axis = 1 if self.batch_first else 0
        return [
            self.bb.emit(zeros) if value is None else self.part(value, k, axis)
            for value in self.initial
        ]

    def alive(self, t: int, state: list[Expr], before: list[Expr]) -> tuple[Expr, list[Expr]]:
        """Return the output and the state of step ``t``: zeros and the old one behind the end."""
        if self.lengths is None:
            return state[0], state
        emit = self.bb.emit
        runs = emit(op.greater(self.lengths, relax.const(t, dtype_of(self.lengths))))
        runs = emit(op.reshape(runs, (self.batch, 1)))
        kept = [emit(op.where(runs, new, old)) for new, old in zip(state, before, strict=True)]
        return emit(op.where(runs, state[0], relax.const(0, dtype_of(self.x)))), kept

    def run(self, k: int) -> tuple[Expr, list[Expr]]:
        """Return the outputs of direction ``k``, [T, N, H], and its last state."""
        direction, steps = self.direction(k)
        state = self.start(k)
        reverse = k == 1 or self.attrs.get("direction", b"forward") == b"reverse"
        found: dict[int, Expr] = {}
        for t in reversed(range(self.count)) if reverse else range(self.count):
            found[t], state = self.alive(t, self.step(direction, steps[t], state), state)
        return self.bb.emit(op.stack([found[t] for t in range(self.count)], 0)), state


def convert_recurrent(
    kind: str, bb: relax.BlockBuilder, inputs: Operands, attrs: Mapping[str, Any]
) -> relax.Tuple:
    """Return (Y, Y_h), of an LSTM (Y, Y_h, Y_c).

    Args:
        kind: ``LSTM``, ``GRU`` or ``RNN``.
        bb: its dataflow block is open.
        inputs: X, W, R and, where given, B, lengths, h₀; of an LSTM c₀ and peepholes too.
        attrs: of the node.
    """
    if attrs.get("input_forget", 0):
        raise ValueError("an LSTM whose forget gate is one minus its input gate")
    layer = _Layer(kind, bb, inputs, attrs)
    runs = [layer.run(k) for k in range(layer.directions)]
    y = bb.emit(op.stack([outputs for outputs, _ in runs], 1))
    if layer.batch_first:
        y = bb.emit(op.permute_dims(y, [2, 0, 1, 3]))
    axis = 1 if layer.batch_first else 0
    last = zip(*(state for _, state in runs), strict=True)
    return relax.Tuple([y, *(bb.emit(op.stack(list(values), axis)) for values in last)])


CONVERTERS = {kind: partial(convert_recurrent, kind) for kind in _STANDARD}
"""ONNX's operator -> converter."""
