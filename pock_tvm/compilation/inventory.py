"""What the graph of an imported model does with each of its parameters."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tvm import relax

from pock_tvm.frontend import ImportedModel
from pock_tvm.relay_passes.rewrite import bindings_of, is_call_to, static_shape
from pock_tvm.relay_passes.simplify_shapes import permutation_of
from pock_tvm.update import Parameter

_CONVOLUTIONS = ("relax.nn.conv1d", "relax.nn.conv2d", "relax.nn.conv3d")


@dataclass(frozen=True)
class _View:
    """A parameter, or a transpose of it: axis i of the view is ``axes[i]`` of the parameter."""

    name: str
    axes: tuple[int, ...]


def parameters_of(model: ImportedModel) -> list[Parameter]:
    """Return the parameters that gradients could train, in the model's order."""
    known = {
        name: Parameter(
            name=name,
            shape=value.shape,
            dtype=str(value.dtype),
            aliases=tuple(a for a, of in model.aliases.items() if of == name),
        )
        for name, value in model.parameters.items()
        if name not in model.buffers
    }
    readings: dict[str, list[Parameter]] = {name: [] for name in known}
    for view, reading in _readings(model.mod["main"], known):
        readings[view].append(reading)
    return [_agreed(known[name], found) for name, found in readings.items()]


def _readings(func: relax.Function, known: dict[str, Parameter]) -> Iterator[tuple[str, Parameter]]:
    """Yield each use of a parameter: its name, and what that use makes of it."""
    views = {
        p: _View(p.name, tuple(range(len(p.ty.shape)))) for p in func.params if p.name in known
    }
    for binding in bindings_of(func):
        value = binding.value
        if is_call_to(value, "relax.permute_dims") and value.args[0] in views:
            view = views[value.args[0]]
            views[binding.var] = _View(
                view.name, tuple(view.axes[a] for a in permutation_of(value))
            )
            continue
        for var in relax.analysis.free_vars(value):
            if var in views:
                view = views[var]
                yield view.name, _reading(value, var, view, known[view.name])


def _reading(value: relax.Expr, var: relax.Var, view: _View, p: Parameter) -> Parameter:
    weight = value.args[1] if isinstance(value, relax.Call) and len(value.args) > 1 else None
    if is_call_to(value, "relax.matmul") and var.same_as(weight) and len(view.axes) == 2:
        return replace(p, reader="linear", input_axis=view.axes[0], output_axis=view.axes[1])
    if is_call_to(value, *_CONVOLUTIONS) and var.same_as(weight):
        layout = str(value.attrs.kernel_layout)
        shape, groups = static_shape(var), int(value.attrs.groups)
        out, inner = layout.index("O"), layout.index("I")
        window = [extent for axis, extent in enumerate(shape) if axis not in (out, inner)]
        if groups > 1 and (shape[inner], shape[out]) == (1, groups):
            return replace(p, reader="depthwise", input_axis=view.axes[out], groups=groups)
        return replace(
            p,
            reader="conv",
            input_axis=view.axes[inner],
            output_axis=view.axes[out],
            groups=groups,
            pointwise=groups == 1 and set(window) == {1},
        )
    if is_call_to(value, "relax.take") and var.same_as(value.args[0]) and len(view.axes) == 2:
        return replace(p, reader="embedding")
    return p


def _agreed(p: Parameter, readings: list[Parameter]) -> Parameter:
    """Return what all readings agree on; a table that is also a layer's weight is a table."""
    table = next((r for r in readings if r.reader == "embedding"), None)
    if table is not None:
        return replace(table, is_output_layer=any(r.reader == "linear" for r in readings))
    if readings and all(r == readings[0] for r in readings):
        return readings[0]
    return p
