"""Choose the output that the loss is computed from."""

from collections.abc import Sequence

from pock_tvm.errors import PockError, UnknownNameError

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
