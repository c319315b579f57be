"""What ``--update`` takes: ``full``, ``bias``, ``head``, ``last:N``, ``preset``, a file, patterns.

A *block* is what the model repeats (``blocks.py``); the *head* is the last module that holds a
weight, or the table of embeddings where that is the output layer, too.
"""

from collections.abc import Sequence
from pathlib import Path

from pock_tvm.errors import UnknownNameError
from pock_tvm.update.blocks import block_of, blocks_of
from pock_tvm.update.recipes import preset
from pock_tvm.update.scheme import UpdateScheme
from pock_tvm.update.toml_format import load_scheme


def parse_update(text: str, parameters: Sequence[str], head: Sequence[str] = ()) -> UpdateScheme:
    """Read what a user writes after ``--update``.

    Args:
        text: ``full``, ``bias`` (every bias, and the head), ``head``, ``last:N`` (the last N blocks
            and all after them), ``preset`` (the recipe of the architecture), the path of a
            ``.toml`` file, or patterns separated by commas.
        parameters: names of the model's trainable parameters, in the model's order.
        head: names of the head's, by ``head_names``; the last module's where empty.

    Raises:
        UnknownNameError: the text is none of these, or asks for more blocks than there are.
    """
    head = tuple(head) or _last_module(parameters)
    if text == "full":
        return UpdateScheme(name=text, trainable=("*",))
    if text == "head":
        return UpdateScheme(name=text, trainable=head)
    if text == "bias":
        biases = tuple(name for name in parameters if name.rpartition(".")[2] == "bias")
        return UpdateScheme(name=text, trainable=(*biases, *head))
    if text == "preset":
        return preset(parameters)
    if text.startswith("last:"):
        return UpdateScheme(name=text, trainable=(*_last_blocks(text, parameters), *head))
    if text.endswith(".toml"):
        return load_scheme(Path(text))
    if "*" in text or "," in text or text in parameters:
        return UpdateScheme(name=text, trainable=tuple(p.strip() for p in text.split(",")))
    raise UnknownNameError(
        f"unknown update {text!r}; write full, bias, head, last:N, preset, a .toml file, or"
        " patterns such as 'classifier.*,*.bias'"
    )


def _last_module(parameters: Sequence[str]) -> tuple[str, ...]:
    module = parameters[-1].rpartition(".")[0]
    return tuple(name for name in parameters if name.rpartition(".")[0] == module)


def _last_blocks(text: str, parameters: Sequence[str]) -> tuple[str, ...]:
    blocks = blocks_of(parameters)
    asked = text.removeprefix("last:").removesuffix(" blocks").strip()
    if not asked.isdigit() or not 1 <= int(asked) <= len(blocks):
        raise UnknownNameError(
            f"update {text!r}: write last:N with N from 1 to {len(blocks)}, the model's blocks"
        )
    first = next(i for i, n in enumerate(parameters) if block_of(n) == blocks[-int(asked)])
    return tuple(parameters[first:])
