"""Choose the output that the loss is computed from."""

from collections.abc import Sequence

from tvm import relax

from pock_tvm.errors import PockError, UnknownNameError
from pock_tvm.relay_passes.rewrite import bindings_of, substitute

LOGITS = "logits"
"""An output of this name is chosen unasked."""


def choose_output(model: str, names: Sequence[str], output: str | int | None) -> int:
    """Return the position of the chosen output.

    Args:
        model: how to call the model in errors.
        names: the model's outputs, in order.
        output: name or position that the user gives.

    Raises:
        UnknownNameError: there is no such output.
        PockError: there are several, none of them called ``logits``, and nothing was chosen.
    """
    listed = ", ".join(f"{i}: {name}" for i, name in enumerate(names))
    if output is not None:
        if isinstance(output, str) and output in names:
            return list(names).index(output)
        position = int(output) if str(output).isdigit() else -1
        if 0 <= position < len(names):
            return position
        raise UnknownNameError(f"{model} has no output {output!r}; its outputs are {listed}")
    if len(names) == 1:
        return 0
    if LOGITS in names:
        return list(names).index(LOGITS)
    raise PockError(
        f"{model} returns {len(names)} tensors ({listed}); "
        "say which is the logits with --output-name (in Python: output=)"
    )


def return_one(main: relax.Function, position: int) -> relax.Function:
    """Return one of the tensors that a function returns."""
    if not isinstance(main.ret_ty, relax.TupleType):
        return main
    bb = relax.BlockBuilder()
    env: dict[relax.Var, relax.Expr] = {p: relax.Var(p.name, p.ty) for p in main.params}
    with bb.function("main", list(env.values()), attrs=dict(main.attrs or {})):
        with bb.dataflow():
            for binding in bindings_of(main):
                value = substitute(binding.value, env)
                env[binding.var] = value if isinstance(value, relax.Tuple) else bb.emit(value)
            output = bb.emit_output(substitute(main.body.body, env).fields[position])
        bb.emit_func_output(output)
    return relax.transform.DeadCodeElimination()(bb.get())["main"]
