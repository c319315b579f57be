"""Run a graph of PyTorch's core operators on a library with numpy's functions.

Pictures flow channels last, the layout that JAX and TensorFlow have fast convolutions for on a
processor: what a convolution returns is marked, operators point by point keep the mark, and any
other operator gets the layout that PyTorch wrote down.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy


class Library(Protocol):
    """What numpy's functions leave out."""

    np: Any

    def convolution(self, x: Any, w: Any, stride: int, padding: int, groups: int) -> Any:
        """Convolve channels last with weights [h, w, in, out]."""

    def max_pool(self, x: Any, window: int, stride: int, padding: int) -> Any:
        """Take the largest of each window, channels last."""

    def embedding(self, table: Any, indices: Any) -> Any:
        """Take rows."""

    def stop_gradient(self, x: Any) -> Any:
        """Return x as a constant."""

    def softmax(self, x: Any, axis: int) -> Any:
        """Normalize exponentials."""

    def gelu(self, x: Any) -> Any:
        """x · Φ(x), exactly."""

    def sigmoid(self, x: Any) -> Any:
        """1 / (1 + e⁻ˣ)."""


def convolution_weights(task: Mapping[str, Any]) -> set[str]:
    """Return the names of the tensors that are stored as [h, w, in, out]."""
    of = task["parameters"]
    return {of[n["args"][1]["ref"]] for n in task["nodes"] if n["op"] == "convolution"}


def stored(task: Mapping[str, Any], weights: Mapping[str, numpy.ndarray]) -> dict[str, Any]:
    """Return the weights in the layout that `Graph` reads."""
    transposed = convolution_weights(task)
    return {
        name: numpy.ascontiguousarray(value.transpose(2, 3, 1, 0) if name in transposed else value)
        for name, value in weights.items()
    }


class Graph:
    """The operators of one task."""

    def __init__(self, task: Mapping[str, Any], library: Library) -> None:
        self.task, self.library, self.np = task, library, library.np

    def __call__(self, tensors: Mapping[str, Any], inputs: Any) -> Any:
        """Return the logits."""
        self.values: dict[str, Any] = {
            node: tensors[name] for node, name in self.task["parameters"].items()
        }
        self.values[self.task["input"]] = inputs
        self.last: set[str] = set()
        for node in self.task["nodes"]:
            self._run(node)
        return self.values[self.task["output"]]

    def _run(self, node: Mapping[str, Any]) -> None:
        op, name = node["op"], node["name"]
        refs = [a["ref"] for a in node["args"] if isinstance(a, dict) and "ref" in a]
        special = getattr(self, f"_{op.strip('_')}", None)
        if special is not None:
            self.values[name] = special(name, *node["args"], **node["options"])
            return
        point = getattr(_Points, op.strip("_"), None)
        if point is None:
            raise NotImplementedError(f"no rule for {op}")
        if any(r in self.last for r in refs):
            self.last.add(name)
        values = [self._value(a, same=True) for a in node["args"]]
        self.values[name] = point(self, *values, **node["options"])

    def _value(self, argument: Any, *, same: bool = False) -> Any:
        """Return the value of an argument; channels last only if ``same``."""
        if isinstance(argument, list):
            return [self._value(a, same=same) for a in argument]
        if not isinstance(argument, dict):
            return argument
        if "float" in argument:
            return float(argument["float"])
        if "text" in argument:
            return argument["text"]
        name = argument["ref"]
        value = self.values[name]
        if name in self.last and not same:
            return self.np.transpose(value, (0, 3, 1, 2))
        return value

    def _picture(self, argument: Any) -> Any:
        """Return the value of an argument, channels last."""
        value = self.values[argument["ref"]]
        if argument["ref"] in self.last:
            return value
        return self.np.transpose(value, (0, 2, 3, 1))

    # Operators that care for the layout.

    def _convolution(
        self, name: str, x: Any, w: Any, bias: Any, stride: Any, padding: Any, *rest: Any
    ) -> Any:
        dilation, transposed, _, groups = rest
        assert set(dilation) == {1}, "dilated convolutions are not written down here"
        assert not transposed
        self.last.add(name)
        weight = self._value(w)
        y = self.library.convolution(self._picture(x), weight, stride[0], padding[0], groups)
        return y if bias is None else y + self._value(bias)

    def _native_batch_norm_legit_no_training(
        self, name: str, x: Any, w: Any, b: Any, mean: Any, var: Any, _momentum: float, eps: float
    ) -> Any:
        weight, bias, mean, var = (self._value(a) for a in (w, b, mean, var))
        scale = weight / self.np.sqrt(var + eps)
        self.last.add(name)
        return (self._picture(x) * scale + (bias - mean * scale),)

    def _max_pool2d_with_indices(
        self, name: str, x: Any, window: Any, stride: Any, padding: Any = (0,)
    ) -> Any:
        self.last.add(name)
        return (self.library.max_pool(self._picture(x), window[0], stride[0], padding[0]),)

    def _getitem(self, name: str, of: Any, index: int) -> Any:
        if of["ref"] in self.last:
            self.last.add(name)
        return self.values[of["ref"]][index]

    def _constant_pad_nd(self, name: str, x: Any, pad: Sequence[int], value: float = 0.0) -> Any:
        assert value == 0.0
        assert len(pad) == 4, "pictures only"
        if not any(pad):
            if x["ref"] in self.last:
                self.last.add(name)
            return self.values[x["ref"]]
        self.last.add(name)
        left, right, top, bottom = pad
        return self.np.pad(self._picture(x), ((0, 0), (top, bottom), (left, right), (0, 0)))

    def _mean(self, name: str, x: Any, axes: Sequence[int], *keep: Any) -> Any:
        value = self._value(x)
        return self.np.mean(value, axis=tuple(axes), keepdims=any(keep))

    def _embedding(self, name: str, table: Any, indices: Any, padding: int = -1, *_: Any) -> Any:
        where = self._value(indices)
        rows = self.library.embedding(self._value(table), where)
        if padding < 0:
            return rows
        # The row of the padding token does not learn.
        is_padding = self.np.expand_dims(where == padding, -1)
        return self.np.where(is_padding, self.library.stop_gradient(rows), rows)

    def _native_layer_norm(self, name: str, x: Any, shape: Any, w: Any, b: Any, eps: float) -> Any:
        value = self._value(x)
        assert len(shape) == 1
        mean = self.np.mean(value, axis=-1, keepdims=True)
        centred = value - mean
        var = self.np.mean(centred * centred, axis=-1, keepdims=True)
        return (centred / self.np.sqrt(var + eps) * self._value(w) + self._value(b),)

    def _view(self, name: str, x: Any, shape: Any) -> Any:
        return self.np.reshape(self._value(x), shape)

    def _permute(self, name: str, x: Any, axes: Any) -> Any:
        return self.np.transpose(self._value(x), axes)

    def _expand(self, name: str, x: Any, shape: Any) -> Any:
        value = self._value(x)
        old = [1] * (len(shape) - len(value.shape)) + [int(n) for n in value.shape]
        new = [o if n == -1 else n for n, o in zip(shape, old, strict=True)]
        return value if new == old else self.np.broadcast_to(value, new)

    def _unsqueeze(self, name: str, x: Any, axis: int) -> Any:
        return self.np.expand_dims(self._value(x), axis)

    def _select(self, name: str, x: Any, axis: int, index: int) -> Any:
        value = self._value(x)
        return value[(slice(None),) * (axis % len(value.shape)) + (index,)]

    def _slice(
        self, name: str, x: Any, axis: int = 0, start: int | None = None, end: int | None = None
    ) -> Any:
        value = self._value(x)
        end = None if end is not None and end > 1 << 40 else end
        return value[(slice(None),) * (axis % len(value.shape)) + (slice(start, end),)]

    def _cat(self, name: str, parts: Any, axis: int = 0) -> Any:
        return self.np.concatenate(self._value(parts), axis)

    def _addmm(self, name: str, bias: Any, x: Any, w: Any) -> Any:
        return self.np.matmul(self._value(x), self._value(w)) + self._value(bias)

    def _mm(self, name: str, x: Any, y: Any) -> Any:
        return self.np.matmul(self._value(x), self._value(y))

    _bmm = _mm

    def _softmax(self, name: str, x: Any, axis: int, _half: Any) -> Any:
        return self.library.softmax(self._value(x), axis)

    def _gather(self, name: str, x: Any, axis: int, index: Any) -> Any:
        return self.np.take_along_axis(self._value(x), self._value(index), axis)

    def _arange(self, name: str, *bounds: Any, **_: Any) -> Any:
        return numpy.arange(*bounds).astype("int32")

    def _full(self, name: str, shape: Any, value: Any, **_: Any) -> Any:
        return numpy.full(shape, self._value(value), _dtype(value))

    def _scalar_tensor(self, name: str, value: Any, **_: Any) -> Any:
        return numpy.asarray(self._value(value), "float32")

    def _assert_tensor_metadata(self, name: str, *_: Any, **__: Any) -> None:
        return None


def _dtype(value: Any) -> str:
    return "bool" if isinstance(value, bool) else "float32"


class _Points:
    """Operators point by point: any layout."""

    @staticmethod
    def add(g: Graph, x: Any, y: Any) -> Any:
        return x + y

    @staticmethod
    def mul(g: Graph, x: Any, y: Any) -> Any:
        return x * y

    @staticmethod
    def div(g: Graph, x: Any, y: Any) -> Any:
        return x / y

    @staticmethod
    def neg(g: Graph, x: Any) -> Any:
        return -x

    @staticmethod
    def ge(g: Graph, x: Any, y: Any) -> Any:
        return x >= y

    @staticmethod
    def pow(g: Graph, x: Any, y: Any) -> Any:
        return x * x if y == 2 else x**y

    @staticmethod
    def rsqrt(g: Graph, x: Any) -> Any:
        return 1.0 / g.np.sqrt(x)

    @staticmethod
    def cos(g: Graph, x: Any) -> Any:
        return g.np.cos(x)

    @staticmethod
    def sin(g: Graph, x: Any) -> Any:
        return g.np.sin(x)

    @staticmethod
    def tanh(g: Graph, x: Any) -> Any:
        return g.np.tanh(x)

    @staticmethod
    def relu(g: Graph, x: Any) -> Any:
        return g.np.maximum(x, 0.0)

    @staticmethod
    def hardtanh(g: Graph, x: Any, low: float = -1.0, high: float = 1.0) -> Any:
        return g.np.clip(x, low, high)

    @staticmethod
    def sigmoid(g: Graph, x: Any) -> Any:
        return g.library.sigmoid(x)

    @staticmethod
    def gelu(g: Graph, x: Any, approximate: str = "none") -> Any:
        assert approximate == "none"
        return g.library.gelu(x)

    @staticmethod
    def where(g: Graph, condition: Any, x: Any, y: Any) -> Any:
        return g.np.where(condition, x, y)

    @staticmethod
    def clone(g: Graph, x: Any, **_: Any) -> Any:
        return x

    alias = clone

    @staticmethod
    def to_copy(g: Graph, x: Any, dtype: Any = None, **_: Any) -> Any:
        assert dtype is None or dtype["text"] == "torch.float32"
        return x if dtype is None else g.np.asarray(x, "float32")
