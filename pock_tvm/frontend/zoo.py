"""Models by name, built from their ``transformers`` configuration with random weights."""

import difflib
from collections.abc import Callable

import torch

from pock_tvm.errors import PockError, UnknownNameError

Built = tuple[torch.nn.Module, tuple[torch.Tensor, ...]]


def mobilenet_v2() -> Built:
    """MobileNetV2 1.0 at 224 x 224, 1000 classes (Sandler et al. 2018)."""
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    model = MobileNetV2ForImageClassification(MobileNetV2Config(num_labels=1000))
    # The library's weights are so small that, under running statistics that nobody has measured,
    # activations fall to 1e-21 on the way up and nothing can be learned; these keep their size.
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Conv2d):
            after = "linear" if "reduce_1x1" in name else "relu"
            torch.nn.init.kaiming_normal_(layer.weight, nonlinearity=after)
    return model, (torch.zeros(1, 3, 224, 224),)


def distilbert() -> Built:
    """DistilBERT-base as a classifier of two classes, 128 tokens (Sanh et al. 2019)."""
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    # Scaled-dot-product attention imports badly; "eager" spells it out.
    config = DistilBertConfig(num_labels=2, attn_implementation="eager")
    model = DistilBertForSequenceClassification(config)
    return model, (torch.zeros(1, 128, dtype=torch.int64),)


ZOO: dict[str, Callable[[], Built]] = {
    "mobilenet_v2": mobilenet_v2,
    "distilbert": distilbert,
}


def build_zoo_model(name: str, seed: int = 0) -> Built:
    """Build a model with weights drawn from ``seed``, and example inputs for one sample.

    Raises:
        UnknownNameError: the zoo has no such model.
        PockError: ``transformers`` is not installed.
    """
    if name not in ZOO:
        near = difflib.get_close_matches(name, ZOO, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(ZOO)}"
        raise UnknownNameError(f"the zoo has no model {name!r}{hint}")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            return ZOO[name]()
        except ModuleNotFoundError as error:
            raise PockError(
                f"zoo:{name} needs {error.name}; install it with: pip install 'pock-tvm[zoo]'"
            ) from error
