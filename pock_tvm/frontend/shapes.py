"""Give every input a static shape: the batch, what the user fixed, and what follows from both."""

from collections.abc import Mapping, Sequence

from pock_tvm.errors import BatchError, PockError, UnknownNameError, UnsupportedModelError

Shapes = Mapping[str, tuple[int, ...]]
"""Static shapes by input name, as ``--shape`` gives them."""

Extent = int | str | None
"""Length of an axis: a number, the name of a symbol, or None where nothing is known."""


def parse_shapes(options: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Read ``NAME=8,3,224,224`` options.

    Raises:
        PockError: an option is not of that form.
    """
    shapes = {}
    for option in options:
        name, _, extents = option.rpartition("=")
        parts = extents.split(",")
        if not name or not all(p.strip().isdigit() and int(p) > 0 for p in parts):
            raise PockError(f"--shape {option!r} is not of the form NAME=8,3,224,224")
        shapes[name] = tuple(int(p) for p in parts)
    return shapes


def bind_shapes(
    model: str,
    declared: Mapping[str, Sequence[Extent] | None],
    batch: int,
    fixed: Shapes,
) -> dict[str, tuple[int, ...]]:
    """Return the static shape of every input.

    Args:
        model: how to call the model in errors.
        declared: by input, its axes as the model declares them; None where not even the rank is
            known. The leading axis is the batch.
        batch: samples in one training step.
        fixed: shapes that the user gives.

    Raises:
        UnknownNameError: ``fixed`` names no input.
        BatchError: an input is made for another batch, or is a scalar.
        PockError: a given shape contradicts the declared one.
        UnsupportedModelError: axes without a length are left; all are named.
    """
    if unknown := [name for name in fixed if name not in declared]:
        raise UnknownNameError(
            f"{model} has no input {unknown[0]!r}; its inputs are {', '.join(declared)}"
        )
    known: dict[str, int] = {}
    shapes = {name: _one(model, name, axes, fixed.get(name)) for name, axes in declared.items()}
    for name, axes in shapes.items():
        _bind_batch(model, name, axes, batch)
        for extent, symbol in zip(axes, declared[name] or axes, strict=True):
            if not isinstance(extent, int) or not isinstance(symbol, str):
                continue
            if known.setdefault(symbol, extent) != extent:
                raise PockError(
                    f"{model}: axis {symbol!r} of input {name} would be {extent} here and "
                    f"{known[symbol]} elsewhere; give the inputs shapes that agree"
                )
    open_axes = []
    for name, axes in shapes.items():
        axes[:] = [known.get(e, e) if isinstance(e, str) else e for e in axes]
        open_axes += [
            f"axis {i} of input {name}" + (f" ({e!r})" if isinstance(e, str) else "")
            for i, e in enumerate(axes)
            if not isinstance(e, int)
        ]
    if open_axes:
        example = next(n for n, axes in shapes.items() if not all(isinstance(e, int) for e in axes))
        lengths = ",".join(str(e) if isinstance(e, int) else "LENGTH" for e in shapes[example])
        raise UnsupportedModelError(
            f"{model} has no fixed length for {'; '.join(open_axes)}: "
            f"pass --shape {example}={lengths} (in Python: shapes=), or export static shapes"
        )
    return {name: tuple(e for e in axes if isinstance(e, int)) for name, axes in shapes.items()}


def _one(
    model: str, name: str, declared: Sequence[Extent] | None, given: tuple[int, ...] | None
) -> list[Extent]:
    """Return the axes of one input after the user's shape has been laid over them."""
    if declared is None:
        if given is None:
            raise UnsupportedModelError(
                f"{model} does not declare the shape of input {name}; "
                f"pass --shape {name}=… (in Python: shapes=)"
            )
        return list(given)
    if given is None:
        return list(declared)
    agrees = len(given) == len(declared) and all(
        a == b or not isinstance(b, int) for a, b in zip(given, declared, strict=True)
    )
    if not agrees:
        axes = ", ".join(str(e) if e is not None else "?" for e in declared)
        raise PockError(
            f"input {name} of {model} has the shape ({axes}), which {given} contradicts"
        )
    return list(given)


def _bind_batch(model: str, name: str, axes: list[Extent], batch: int) -> None:
    if not axes:
        raise BatchError(f"input {name} of {model} is a scalar; its leading axis must be the batch")
    if isinstance(axes[0], int) and axes[0] != batch:
        raise BatchError(
            f"{model} was exported for batches of {axes[0]}, not {batch} (input {name}); "
            f"pass --batch {axes[0]} or export it again"
        )
    axes[0] = batch
