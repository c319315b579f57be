"""Text that is at hand: the reference of the Python language, and licences as a lawyer's writing.

Nothing is bundled: the first comes with Python (``pydoc_data``, PSF licence), the licences with
Debian and Ubuntu, whose texts may be copied verbatim.
"""

import re
from itertools import pairwise
from pathlib import Path

import numpy as np

from pock_tvm.errors import PockError
from pock_tvm.search.samples import Samples, Split

ALPHABET = "\n abcdefghijklmnopqrstuvwxyz.,;:'\"()-/*"
"""Of a keyboard without capitals; a digit is a star."""
LICENCES = Path("/usr/share/common-licenses")
OF_A_LAWYER = ("GPL-3", "GFDL-1.3", "MPL-2.0", "Apache-2.0")


def reference_text() -> str:
    """Return the reference of the Python language, without its mark-up of references."""
    from pydoc_data.topics import topics

    text = "\n".join(str(topics[name]) for name in sorted(topics))
    return _plain(re.sub(r"https?://\S+", "", text))


def legal_texts() -> list[str]:
    """Return licences that share no clauses.

    Raises:
        PockError: they are not on this machine.
    """
    try:
        return [_plain((LICENCES / name).read_text(encoding="utf-8")) for name in OF_A_LAWYER]
    except OSError as error:
        raise PockError(
            f"cannot read {LICENCES}: {error.strerror}; run this on Debian or Ubuntu, or write "
            "licence texts there"
        ) from error


def windows(text: str, length: int, count: int, seed: int) -> Samples:
    """Return windows of a text from random places, and for each character the one after it."""
    codes = np.array([ALPHABET.index(c) for c in text], np.int64)
    starts = np.random.default_rng(seed).integers(0, len(codes) - length - 1, count)
    rows = codes[starts[:, None] + np.arange(length + 1)]
    return Samples(rows[:, :-1].copy(), rows[:, 1:].copy())


def split_texts(texts: list[str], length: int, seed: int) -> Split:
    """Split each text in order, so that what is tested on was written later."""
    cuts = (0.0, 0.5, 0.7, 1.0)
    parts = [
        "\n".join(text[int(a * len(text)) : int(b * len(text))] for text in texts)
        for a, b in pairwise(cuts)
    ]
    counts = (400, 160, 320)
    return Split(*(windows(parts[i], length, counts[i], seed + i) for i in range(len(parts))))


def _plain(text: str) -> str:
    """Join lines of paragraphs, and leave out what the alphabet lacks."""
    paragraphs = re.split(r"\n\s*\n", text)
    joined = "\n".join(re.sub(r"\s+", " ", paragraph).strip() for paragraph in paragraphs)
    return "".join(c for c in re.sub(r"[0-9]", "*", joined.lower()) if c in ALPHABET)
