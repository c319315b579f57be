"""MNN through its raw bindings; its Python wrappers insert a cast that has no gradient."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _mnncengine._expr as expr
import _mnncengine._nn as nn
import _mnncengine._optim as optim
import numpy
from protocol import serve

_CONVERTER = "import sys, _tools; _tools.mnnconvert(['mnnconvert', *sys.argv[1:]])"


def make(task: dict[str, Any], folder: Path) -> tuple[Callable[[], None], Callable[[], float]]:
    """Return a function that does one step, and one that says the loss before it."""
    file = folder / "model.mnn"
    if not file.exists():  # left there by timing, where memory is measured
        _convert(folder / "model.onnx", file)
    expr.set_thread_number(task["threads"])
    expr.lazy_eval(True)  # noqa: FBT003  its bindings take no names
    graph = expr.load_as_dict(str(file))
    module = nn.load_module([graph["input"]], [graph["logits"]], True)  # noqa: FBT003
    module.train(True)  # noqa: FBT003
    learning = _freeze(module.parameters, numpy.load(folder / "matrices.npz"), task["trainable"])
    rate = task["learning_rate"]
    if task["optimizer"] == "adamw":
        sys.exit("MNN has Adam, not AdamW")
    optimizer = optim.SGD(module, rate, 0.0, 0.0)
    batch = numpy.load(folder / "batch.npz")
    inputs = _constant(batch["inputs"])
    count = len(batch["labels"])
    steps = 0

    def loss() -> Any:
        logits = module.forward(inputs)
        marks = numpy.zeros((count, logits.shape[1]), "float32")
        marks[numpy.arange(count), batch["labels"]] = -1 / count
        likelihoods = expr.log(expr.softmax(logits, 1))
        return expr.reduce_sum(expr.multiply(likelihoods, _constant(marks)), [0, 1])

    def step() -> None:
        nonlocal steps
        before = [_values(p) for p in learning(module)] if steps == 0 else []
        if not optimizer.step(loss()):
            sys.exit("MNN did no step")
        for old, new in zip(before, learning(module), strict=False):
            if (old == _values(new)).all():
                sys.exit(f"a parameter of shape {new.shape} should learn and does not")
        steps += 1

    return step, lambda: float(loss().read())


def _convert(source: Path, made: Path) -> None:
    """Call the converter itself.

    MNN's command installs a package that reports its use by whichever ``pip`` it finds first.
    """
    command: list[Any] = [sys.executable, "-c", _CONVERTER, "-f", "ONNX", "--modelFile", source]
    command += ["--MNNModel", made, "--bizCode", "pock", "--forTraining"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _freeze(parameters: Any, matrices: Any, names: list[str]) -> Callable[[Any], list[Any]]:
    """Freeze what does not learn; MNN keeps no names, so a layer is known by its matrix."""
    named = {name: matrices[name] for name in matrices.files}
    chosen = []
    for place in range(1, len(parameters), 2):  # a layer's bias comes before its weight
        weight = _values(parameters[place])
        (name,) = {n for n, m in named.items() if _same(weight, m)}
        layer = name.removesuffix(".weight")
        for i, field in ((place, "weight"), (place - 1, "bias")):
            if f"{layer}.{field}" in names:
                chosen.append(i)
            else:
                parameters[i].fix_as_const()
    return lambda module: [module.parameters[i] for i in chosen]


def _same(weight: Any, matrix: Any) -> bool:
    if weight.size != matrix.size:
        return False
    flat = weight.ravel()
    return bool((flat == matrix.ravel()).all() or (flat == matrix.T.ravel()).all())


def _values(variable: Any) -> Any:
    if variable.data_format == expr.NC4HW4:
        variable = expr.convert(variable, expr.NCHW)
    return numpy.array(variable.read())


def _constant(values: Any) -> Any:
    if values.dtype.kind == "f":
        return expr.const(numpy.ascontiguousarray(values), list(values.shape), expr.NCHW)
    return expr.const(values.astype("int32"), list(values.shape), expr.NCHW, expr.int)


if __name__ == "__main__":
    serve(make)
