"""Text as the inputs of a model, by a ``tokenizer.json`` of the ``tokenizers`` library."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pock_tvm.artifact.sample_form import SampleForm, TensorForm
from pock_tvm.errors import BatchError
from pock_tvm.samples.source import LABELS, Arrays

IDS, MASK, TYPES, POSITIONS = "input_ids", "attention_mask", "token_type_ids", "position_ids"
_PADDING_TOKENS = ("[PAD]", "<pad>", "<|pad|>", "<|padding|>")


class TextTokens:
    """A tokenizer that pads and cuts to the length that the model was compiled for."""

    def __init__(self, path: Path, form: SampleForm) -> None:
        """Read the tokenizer.

        Raises:
            BatchError: it cannot be read, or the model takes no tokens.
        """
        self._path, self._form = path, form
        self._roles = _roles(form)
        ids = next(tensor for tensor in form.inputs if self._roles[tensor.name] == IDS)
        self._ids, self.length = ids, ids.shape[0]
        self._tokenizer = _tokenizer(path)
        self._tokenizer.enable_truncation(self.length)
        self._tokenizer.enable_padding(length=self.length, **self._padding())

    @property
    def makes_labels(self) -> bool:
        """Whether each token's label is the one after it: the model predicts tokens."""
        label = self._form.label
        return label is not None and label.shape == (self.length,) and label.ignore is not None

    def arrays(self, texts: Sequence[str] | Sequence[tuple[str, str]]) -> Arrays:
        """Return the model's inputs and, where it predicts tokens, its labels.

        Raises:
            BatchError: a token is not one of the model's.
        """
        encoded = self._tokenizer.encode_batch(list(texts))
        found = {
            IDS: np.array([one.ids for one in encoded], np.int64),
            MASK: np.array([one.attention_mask for one in encoded], np.int64),
            TYPES: np.array([one.type_ids for one in encoded], np.int64),
        }
        found[POSITIONS] = np.broadcast_to(np.arange(self.length), found[IDS].shape)
        largest = int(found[IDS].max(initial=0))
        if self._ids.limit is not None and largest >= self._ids.limit:
            raise BatchError(
                f"{self._path} gives the token {largest}, and the model knows 0 to "
                f"{self._ids.limit - 1}: it is another model's tokenizer"
            )
        arrays = {
            tensor.name: found[self._roles[tensor.name]].astype(tensor.dtype)
            for tensor in self._form.inputs
        }
        if self.makes_labels:
            arrays[LABELS] = self._next_tokens(found)
        return arrays

    def _next_tokens(self, found: Arrays) -> np.ndarray:
        assert self._form.label is not None
        ignore = self._form.label.ignore
        assert ignore is not None
        labels = np.full(found[IDS].shape, ignore, self._form.label.dtype)
        both = (found[MASK][:, 1:] != 0) & (found[MASK][:, :-1] != 0)
        np.copyto(labels[:, :-1], found[IDS][:, 1:], where=both, casting="same_kind")
        return labels

    def _padding(self) -> dict[str, Any]:
        """Return how the tokenizer pads: as it says itself, or by a token that is for that."""
        said = self._tokenizer.padding
        if said:
            keys = ("direction", "pad_id", "pad_type_id", "pad_token")
            return {key: said[key] for key in keys if key in said}
        for token in _PADDING_TOKENS:
            number = self._tokenizer.token_to_id(token)
            if number is not None:
                return {"pad_id": number, "pad_token": token}
        if MASK in self._roles.values() or self.makes_labels:
            return {"pad_id": 0}  # nobody looks at it
        raise BatchError(
            f"{self._path} names no padding token, and the model has no {MASK}: add one such as "
            f"{_PADDING_TOKENS[0]} to the tokenizer"
        )


def takes_tokens(form: SampleForm) -> bool:
    """Say whether text can be given to a model."""
    try:
        _roles(form)
    except BatchError:
        return False
    return True


def _roles(form: SampleForm) -> dict[str, str]:
    """Return what each input is: by its name, or because it is the only one of integers."""
    roles = {t.name: t.name for t in form.inputs if t.name in (IDS, MASK, TYPES, POSITIONS)}
    integers = [t for t in form.inputs if _is_row_of_integers(t)]
    if IDS not in roles.values() and len(integers) == 1:
        roles[integers[0].name] = IDS
    lengths = {t.shape for t in form.inputs}
    unknown = [t.name for t in form.inputs if t.name not in roles]
    if unknown or len(lengths) != 1 or len(next(iter(lengths))) != 1 or IDS not in roles.values():
        raise BatchError(
            f"a tokenizer gives {IDS}, {MASK}, {TYPES} and {POSITIONS}, each of (length,); the "
            f"model takes {', '.join(f'{t.name} {t.shape}' for t in form.inputs)}"
        )
    return roles


def _is_row_of_integers(tensor: TensorForm) -> bool:
    return len(tensor.shape) == 1 and tensor.dtype in ("int32", "int64")


def _tokenizer(path: Path) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise BatchError("text needs tokenizers: pip install 'pock-tvm[text]'") from None
    if not path.is_file():
        raise BatchError(f"cannot read the tokenizer {path}: there is no such file")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BatchError(f"{path} is not a tokenizer.json: {why}") from None
