"""``--update preset`` on models of the zoo: exactly what the recipe names learns."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from inventory_of import conv, depthwise, linear, values_of, vector
from zoo_parameters import zoo_parameters

from pock_tvm.compilation.inventory import parameters_of
from pock_tvm.errors import UnknownNameError
from pock_tvm.frontend import load_model
from pock_tvm.frontend.zoo import ZOO
from pock_tvm.update import head_names, learnable_names, parse_update, resolve

DOCUMENT = Path(__file__).parents[2] / "docs" / "update-schemes.md"


@dataclass(frozen=True)
class Expected:
    """Regular expressions of the tensors that learn whole; (channels, of) of one that does not."""

    whole: tuple[str, ...]
    channels: dict[str, tuple[int, int]] = field(default_factory=dict)


def bottlenecks(biases: str, weights: str, half: int, channels: int) -> Expected:
    """Return MCUNet's recipe for a net with its names, without the head."""
    conv = r"mobile_inverted_conv\.inverted_bottleneck\.conv\.weight"
    return Expected(
        (
            rf"blocks\.({biases})\.mobile_inverted_conv\.\w+\.bn\.bias",
            rf"blocks\.({weights})\.{conv}",
            r"feature_mix_layer\.bn\.bias",
            r"classifier\.linear\.(weight|bias)",
        ),
        {f"blocks.{half}.{conv}".replace("\\", ""): (channels // 2, channels)},
    )


def encoder(blocks: str, biases: str, weights: str, linear: str, *others: str) -> Expected:
    """Return BERT's recipe: ``blocks`` is the pattern of what stands before a block's number."""
    return Expected(
        (
            rf"{blocks}\.({biases})\..*\.bias",
            rf"{blocks}\.({weights})\.({linear})\.weight",
            *others,
        )
    )


# Blocks count from 0. Twelve blocks: biases of the last six, weights of the last four.
SIX, FOUR = "6|7|8|9|10|11", "8|9|10|11"
MOBILENET = Expected(
    (
        r"mobilenet_v2\.layer\.(9|1[0-5])\..*\.normalization\.bias",
        r"mobilenet_v2\.layer\.(9|1[0-5])\.expand_1x1\.convolution\.weight",
        r"mobilenet_v2\.conv_1x1\.normalization\.bias",
        r"classifier\.(weight|bias)",
    )
)
VIT = encoder(
    r"vit\.layers",
    SIX,
    FOUR,
    r"attention\.[qkvo]_proj|mlp\.fc1",
    r"vit\.layernorm\.bias",
    r"classifier\.(weight|bias)",
)
EXPECTED = {
    # PockEngine's own.
    "mcunet": bottlenecks("7|8|9|10|11|12|13", "8|9|11", 10, 48),
    "mobilenet_v2": MOBILENET,
    "mobilenet_v2_035": MOBILENET,
    # Sixteen blocks in stages of 3, 4, 6, 3: the last eight are five and three.
    "resnet50": Expected(
        (
            r"resnet\.encoder\.stages\.2\.layers\.[1-5]\..*\.normalization\.bias",
            r"resnet\.encoder\.stages\.3\.layers\.[0-2]\..*\.normalization\.bias",
            r"resnet\.encoder\.stages\.2\.layers\.[1-5]\.layer\.0\.convolution\.weight",
            r"resnet\.encoder\.stages\.3\.layers\.[0-2]\.layer\.0\.convolution\.weight",
            r"classifier\.1\.(weight|bias)",
        )
    ),
    "bert_base": encoder(
        r"bert\.encoder\.layer",
        SIX,
        FOUR,
        r"attention\.self\.(query|key|value)|attention\.output\.dense|intermediate\.dense",
        r"bert\.pooler\.dense\.bias",
        r"classifier\.(weight|bias)",
    ),
    "distilbert": encoder(
        r"distilbert\.transformer\.layer",
        "3|4|5",
        "4|5",
        r"attention\.([qkv]_lin|out_lin)|ffn\.lin1",
        r"pre_classifier\.(weight|bias)",
        r"classifier\.(weight|bias)",
    ),
    "llama_small": Expected(
        (
            r"model\.model\.layers\.[3-7]\.\w+_layernorm\.weight",
            r"model\.model\.layers\.[3-7]\.self_attn\.[qkvo]_proj\.weight",
            r"model\.model\.layers\.[3-7]\.mlp\.(gate|up)_proj\.weight",
            r"model\.model\.norm\.weight",
            r"model\.lm_head\.weight",
        )
    ),
    # Ours: the nearest of the above.
    "proxyless": bottlenecks("13|14|15|16|17|18|19", "14|15|17", 16, 56),
    "efficientnet_lite0": bottlenecks("9|10|11|12|13|14|15", "10|11|13", 12, 192),
    "vit_tiny": VIT,
    "vit_base": VIT,
    "gpt2": encoder(
        r"model\.transformer\.h",
        SIX,
        FOUR,
        r"attn\.c_attn|attn\.c_proj|mlp\.c_fc",
        r"model\.transformer\.ln_f\.bias",
        r"model\.transformer\.wte\.weight",  # the head, tied
    ),
    "clip": encoder(
        r"model\.(text|vision)_model\.encoder\.layers",
        SIX,
        FOUR,
        r"self_attn\.([qkv]|out)_proj|mlp\.fc1",
        r"model\.text_model\.final_layer_norm\.bias",
        r"model\.vision_model\.post_layernorm\.bias",
        r"model\.(text|visual)_projection\.weight",
    ),
}


def _resolved(name, update):
    parameters = zoo_parameters(name)
    names = learnable_names(parameters)
    scheme = parse_update(update, names, head_names(parameters))
    # Values decide which channels learn, not how many; the shape is enough.
    values = {p.name: np.broadcast_to(np.float32(1), p.shape) for p in parameters}
    return resolve(scheme, parameters, values)


def _learning(name, update):
    sizes = {p.name: int(np.prod(p.shape)) for p in zoo_parameters(name)}
    chosen = _resolved(name, update)
    parts = (sizes[n] * len(c.channels) // c.of for n, c in chosen.channels.items())
    return sum(sizes[n] for n in chosen.whole) + sum(parts)


@pytest.mark.parametrize("name", ZOO)
def test_a_preset_trains_what_its_recipe_names(name):
    update, expected = _resolved(name, "preset"), EXPECTED[name]
    names = learnable_names(zoo_parameters(name))
    meant = {n for n in names if any(re.fullmatch(one, n) for one in expected.whole)}
    assert set(update.whole) == meant
    assert {n: (len(c.channels), c.of) for n, c in update.channels.items()} == expected.channels


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_the_parameters_are_those_of_the_imported_model(name):
    assert parameters_of(load_model(f"zoo:{name}", 1)) == list(zoo_parameters(name))


def test_the_document_counts_what_learns():
    rows = dict(re.findall(r"^\| `(\w+)` (\|.*)$", DOCUMENT.read_text(), re.MULTILINE))
    for name in ZOO:
        counts = [_learning(name, update) for update in ("preset", "bias", "head", "full")]
        written = "".join(f"| {count:,} " for count in counts)
        assert rows[name].endswith(f"{written}|"), written


def test_torchvision_numbers_its_blocks_otherwise_and_means_the_same():
    parameters = [conv("features.0.0.weight", window=3), vector("features.0.1.bias")]
    for block in range(1, 18):
        stem = f"features.{block}.conv"
        parameters += [conv(f"{stem}.0.0.weight"), vector(f"{stem}.0.1.bias")]
        parameters += [depthwise(f"{stem}.1.0.weight"), vector(f"{stem}.1.1.bias")]
        parameters += [conv(f"{stem}.2.weight"), vector(f"{stem}.3.bias")]
    parameters += [conv("features.18.0.weight"), vector("features.18.1.bias")]
    parameters += [linear("classifier.1.weight"), vector("classifier.1.bias")]
    names = learnable_names(parameters)
    update = resolve(parse_update("preset", names), parameters, values_of(parameters))
    meant = r"features\.1[1-7]\.conv\.(0\.0\.weight|.*\.bias)|features\.18\.1\.bias|classifier.*"
    assert set(update.whole) == {n for n in names if re.fullmatch(meant, n)}


def test_another_head_learns_too():
    parameters = [
        replace(p, name=p.name.replace("classifier", "qa_outputs"))
        for p in zoo_parameters("distilbert")
        if not p.name.startswith("pre_")
    ]
    names = learnable_names(parameters)
    values = {p.name: np.broadcast_to(np.float32(1), p.shape) for p in parameters}
    update = resolve(parse_update("preset", names), parameters, values)
    assert {"qa_outputs.weight", "qa_outputs.bias"} <= set(update.whole)


def test_a_stranger_has_no_preset():
    with pytest.raises(UnknownNameError, match="no preset knows this architecture"):
        parse_update("preset", ["first.weight", "first.bias"])
