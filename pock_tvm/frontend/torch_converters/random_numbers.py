"""Random numbers that a model draws: refused.

TVM's importer draws them once, at import, or takes zeros for them. Dropout is another matter: it is
kept, see ``frontend/dropout.py``.
"""

from typing import Any, NoReturn

import torch


def refuse(node: torch.fx.Node, importer: Any) -> NoReturn:
    """Raise an error that names the operator."""
    raise NotImplementedError(
        f"the model draws random numbers ({node.target.__name__}): hand them in as an input, "
        "or export the model in eval mode"
    )


CONVERTERS = dict.fromkeys(
    (
        "bernoulli.default",
        "bernoulli.p",
        "exponential.default",
        "multinomial.default",
        "normal_functional.default",
        "rand.default",
        "rand_like.default",
        "randint.default",
        "randint.low",
        "randn.default",
        "randn_like.default",
        "randperm.default",
    ),
    refuse,
)
