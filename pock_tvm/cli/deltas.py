"""What the verbs about deltas say of one: how much of the model changed, and in which form."""

from collections.abc import Mapping

from pock_tvm.cli.output import format_bytes


def delta_rows(
    changed_bytes: int, changes: Mapping[str, Mapping[str, int]], model_bytes: int | None = None
) -> dict[str, str]:
    """Return the rows that tell the sizes; beside the model's, where they are not shown already."""
    beside = "" if model_bytes is None else f" of {format_bytes(model_bytes)}"
    rows = {"changed": format_bytes(changed_bytes) + beside}
    for kind, found in changes.items():
        rows[kind] = f"{found['tensors']} tensors, {format_bytes(found['bytes'])}"
    return rows
