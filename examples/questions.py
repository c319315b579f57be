"""Questions by what they are about: the English dialogues of the package ``chatterbot-corpus``."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from pock_tvm.artifact.sample_form import SampleForm, TensorForm
from pock_tvm.errors import PockError
from pock_tvm.samples.columns import Columns
from pock_tvm.samples.python_rows import read_rows
from pock_tvm.search.samples import Samples, Split

SUBJECTS = ("ai", "coding", "emotion", "literature", "psychology", "tech_support", "trivia")
MOST = 100
"""Questions of a subject; technical support has ten times as many."""
LENGTH = 16
"""Tokens; longer questions are cut."""


def questions(seed: int) -> list[dict[str, Any]]:
    """Return each question once, in a random order, with the number of its subject.

    Raises:
        PockError: the package is not installed.
    """
    import yaml

    rows: list[dict[str, Any]] = []
    generator = np.random.default_rng(seed)
    for number, subject in enumerate(SUBJECTS):
        path = package_folder("chatterbot_corpus") / "data" / "english" / f"{subject}.yml"
        dialogues = yaml.safe_load(path.read_text(encoding="utf-8"))["conversations"]
        asked = sorted({str(dialogue[0]).strip() for dialogue in dialogues})
        chosen = generator.permutation(len(asked))[:MOST]
        rows += [{"text": asked[i], "label": number} for i in chosen]
    return [rows[i] for i in generator.permutation(len(rows))]


def tokenized(rows: list[dict[str, Any]], tokenizer: Path) -> Samples:
    """Return questions as the tokens and masks that an encoder takes."""
    inputs = tuple(
        TensorForm(name=name, dtype="int64", shape=(LENGTH,))
        for name in ("input_ids", "attention_mask")
    )
    label = TensorForm(name="labels", dtype="int32", shape=(), limit=len(SUBJECTS))
    form = SampleForm(inputs=inputs, label=label, batch=1)
    arrays, labels = read_rows(rows, form, Columns(tokenizer=tokenizer))
    assert labels is not None
    return Samples(arrays, labels)


def split(samples: Samples) -> Split:
    """Split samples that are in a random order."""
    cuts = np.cumsum([len(samples) * 4 // 10, len(samples) * 2 // 10])
    return Split(*(samples.take(part) for part in np.split(np.arange(len(samples)), cuts)))


def package_folder(name: str) -> Path:
    """Return the folder of a package that carries data; nothing of it is run.

    Raises:
        PockError: it is not installed.
    """
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise PockError(f"this example needs the package: pip install {name.replace('_', '-')}")
    return Path(found.origin).parent
