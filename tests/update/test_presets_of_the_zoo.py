"""``--update preset`` on models of the zoo: exactly what the recipe names learns."""

import re
from fractions import Fraction

import pytest

from pock_tvm.compilation.inventory import parameters_of
from pock_tvm.errors import UnknownNameError
from pock_tvm.frontend import load_model
from pock_tvm.update import learnable_names, parse_update, resolve

# Of each small form: blocks; those whose biases learn; those whose weights do; the weights.
EXPECTED = {
    "distilbert": (
        r"\.layer\.(\d+)\.",
        range(1, 4),
        range(2, 4),
        r"\.(._lin|out_lin|lin1)\.weight$",
    ),
    "llama_small": (
        r"\.layers\.(\d+)\.",
        range(1, 6),
        range(1, 6),
        r"\.(._proj|gate_proj|up_proj)\.weight$",
    ),
}
HEADS = {"llama_small": "model.model.embed_tokens.weight"}


def _resolved(name):
    model = load_model(f"zoo:{name}@small", 1)
    parameters = parameters_of(model)
    scheme = parse_update("preset", learnable_names(parameters))
    return model, resolve(scheme, parameters, model.parameters)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_preset_trains_what_its_recipe_names(name):
    block_pattern, biases, weights, weight_pattern = EXPECTED[name]
    model, update = _resolved(name)
    names = [n for n in model.parameters if n not in model.buffers]
    numbers = {n: int(m.group(1)) for n in names if (m := re.search(block_pattern, n))}
    behind = names.index(list(numbers)[-1])
    meant = set()
    for position, n in enumerate(names):
        late = numbers[n] in biases if n in numbers else position > behind
        is_shift = n.endswith("bias") or (name == "llama_small" and "norm" in n)
        if (late and is_shift) or n.startswith(("classifier.", "pre_classifier.classifier")):
            meant.add(n)
        if numbers.get(n) in weights and re.search(weight_pattern, n):
            meant.add(n)
    if name in HEADS:
        meant.add(HEADS[name])
    if name == "distilbert":
        meant.add("pre_classifier.weight")
    assert set(update.whole) == meant
    assert not update.channels


def test_mcunet_learns_half_of_one_weights_channels():
    model, update = _resolved("mcunet")
    blocks = [n for n in model.parameters if n.endswith("inverted_bottleneck.conv.weight")]
    whole = [n for n in update.whole if n in blocks]
    assert [*whole[:2], *update.channels, whole[2]] == blocks[-6:-2]
    (chosen,) = update.channels.values()
    assert Fraction(len(chosen.channels), chosen.of) == Fraction(1, 2)


def test_a_stranger_has_no_preset():
    with pytest.raises(UnknownNameError, match="no preset knows this architecture"):
        parse_update("preset", ["first.weight", "first.bias"])
