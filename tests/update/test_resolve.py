"""From a scheme to what exactly learns: selectors, blocks, shares, LoRA, and what is refused."""

from fractions import Fraction

import numpy as np
import pytest
from inventory_of import conv, depthwise, linear, table, update_of, values_of, vector

from pock_tvm import PockError
from pock_tvm.update import LoRA, Parameter, Rule, UpdateScheme, resolve
from pock_tvm.update.selectors import SELECTORS


def layers(*names):
    """A linear layer or, with a leading +, a normalization."""
    made = []
    for name in names:
        make = vector if name.startswith("+") else linear
        name = name.lstrip("+")
        made += [make(f"{name}.weight"), vector(f"{name}.bias")]
    return made


BERT = [
    table("bert.embeddings.word_embeddings.weight"),
    *layers("+bert.embeddings.LayerNorm"),
    *(
        p
        for i in range(2)
        for p in layers(
            *(f"bert.encoder.layer.{i}.attention.self.{n}" for n in ("query", "key", "value")),
            f"bert.encoder.layer.{i}.attention.output.dense",
            f"+bert.encoder.layer.{i}.attention.output.LayerNorm",
            f"bert.encoder.layer.{i}.intermediate.dense",
            f"bert.encoder.layer.{i}.output.dense",
        )
    ),
    *layers("bert.pooler.dense", "classifier"),
]
MOBILE = [
    conv("stem.weight", 8, 3, 3),
    *(
        p
        for i in range(3)
        for p in (
            conv(f"layer.{i}.expand.weight", 16, 8),
            vector(f"layer.{i}.expand.norm.weight", 16),
            vector(f"layer.{i}.expand.norm.bias", 16),
            depthwise(f"layer.{i}.depthwise.weight", 16),
            conv(f"layer.{i}.reduce.weight", 8, 16),
        )
    ),
    linear("classifier.weight", 5, 8),
    vector("classifier.bias", 5),
]
FAMILIES = {
    "distilbert": (
        [f"transformer.layer.0.attention.{n}_lin.weight" for n in ("q", "k", "v", "out")],
        ["transformer.layer.0.ffn.lin1.weight"],
        ["transformer.layer.0.ffn.lin2.weight", "pre_classifier.weight"],
    ),
    "vit": (
        [
            *(f"vit.layer.0.attention.attention.{n}.weight" for n in ("query", "key", "value")),
            "vit.layer.0.attention.output.dense.weight",
        ],
        ["vit.layer.0.intermediate.dense.weight"],
        ["vit.layer.0.output.dense.weight"],
    ),
    "gpt2": (
        ["h.0.attn.c_attn.weight", "h.0.attn.c_proj.weight"],
        ["h.0.mlp.c_fc.weight"],
        ["h.0.mlp.c_proj.weight", "lm_head.weight"],
    ),
    "llama": (
        [f"model.layers.0.self_attn.{n}_proj.weight" for n in "qkvo"],
        ["model.layers.0.mlp.gate_proj.weight", "model.layers.0.mlp.up_proj.weight"],
        ["model.layers.0.mlp.down_proj.weight", "lm_head.weight"],
    ),
    "clip": (
        [f"vision_model.layers.0.self_attn.{n}_proj.weight" for n in ("k", "v", "q", "out")],
        ["vision_model.layers.0.mlp.fc1.weight"],
        ["vision_model.layers.0.mlp.fc2.weight", "visual_projection.weight"],
    ),
    "timm": (
        ["blocks.0.attn.qkv.weight", "blocks.0.attn.proj.weight"],
        ["blocks.0.mlp.fc1.weight"],
        ["blocks.0.mlp.fc2.weight", "head.weight"],
    ),
}


def whole(parameters, *rules, **options):
    return update_of(parameters, rules=rules, **options).whole


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_and_first_ffn_by_the_names_of_a_family(family):
    attention, first_ffn, others = FAMILIES[family]
    parameters = [linear(name) for name in (*attention, *first_ffn, *others)]
    assert whole(parameters, Rule(what=("attention",))) == tuple(attention)
    assert whole(parameters, Rule(what=("first_ffn",))) == tuple(first_ffn)


def test_the_recipe_of_a_transformer():
    chosen = whole(
        BERT,
        Rule(what=("attention", "first_ffn"), blocks="last 1"),
        Rule(what=("bias",), blocks=(1,)),
        Rule(what=("head",)),
    )
    inside = "bert.encoder.layer.1."
    weights = [n for n in chosen if n.endswith("weight")]
    assert weights == [
        *(f"{inside}attention.self.{n}.weight" for n in ("query", "key", "value")),
        f"{inside}attention.output.dense.weight",
        f"{inside}intermediate.dense.weight",
        "classifier.weight",
    ]
    biases = [p.name for p in BERT if p.name.startswith(inside) and p.name.endswith("bias")]
    assert [n for n in chosen if n.endswith("bias")] == [*biases, "classifier.bias"]


def test_norm_is_told_by_the_shape_of_its_weight():
    assert whole(BERT, Rule(what=("norm",))) == tuple(p.name for p in BERT if "LayerNorm" in p.name)


def test_the_recipe_of_a_cnn():
    update = update_of(
        MOBILE,
        trainable=("classifier.*",),
        rules=(
            Rule(what=("bias",), blocks="last 2"),
            Rule(what=("first_conv",), blocks="last 2", channels=Fraction(1, 4)),
        ),
    )
    assert update.whole == (
        "layer.1.expand.norm.bias",
        "layer.2.expand.norm.bias",
        "classifier.weight",
        "classifier.bias",
    )
    values = values_of(MOBILE)
    assert list(update.channels) == ["layer.1.expand.weight", "layer.2.expand.weight"]
    for name, chosen in update.channels.items():
        norms = np.square(values[name]).sum((0, 2, 3))
        assert (chosen.axis, chosen.of, len(chosen.channels)) == (1, 8, 2)
        assert set(chosen.channels) == set(np.argsort(norms)[-2:])


def test_channels_by_another_criterion():
    def chosen(**options):
        rule = Rule(what=("depthwise",), match=("layer.0.*",), channels=Fraction(1, 8))
        return update_of(MOBILE, rules=(rule,), **options).channels["layer.0.depthwise.weight"]

    norms = np.square(values_of(MOBILE)["layer.0.depthwise.weight"]).sum((1, 2, 3))
    assert set(chosen().channels) == set(np.argsort(norms)[-2:])
    assert set(chosen(pick="magnitude-").channels) == set(np.argsort(norms)[:2])
    drawn = [chosen(pick="random", seed=seed) for seed in (0, 0, 1, 2, 3)]
    assert drawn[0] == drawn[1]
    assert len({c.channels for c in drawn}) > 1
    assert chosen().axis == 0


def test_a_later_rule_decides_and_a_share_of_one_is_whole():
    quarter = Rule(what=("pointwise",), channels=Fraction(1, 4))
    first = Rule(what=("first_conv",), channels=Fraction(1))
    update = update_of(MOBILE, rules=(quarter, first))
    assert update.whole == tuple(f"layer.{i}.expand.weight" for i in range(3))
    assert list(update.channels) == [f"layer.{i}.reduce.weight" for i in range(3)]
    assert (
        len(update_of([conv("a.weight", 4, 3)], rules=(quarter,)).channels["a.weight"].channels)
        == 1
    )


def test_lora():
    lora = LoRA(rank=2, alpha=8, targets=("attention", "classifier.*"), blocks="last 1")
    update = update_of(BERT, trainable=("classifier.bias",), lora=(lora,))
    assert list(update.lora) == [
        *(
            f"bert.encoder.layer.1.attention.{n}.weight"
            for n in ("self.query", "self.key", "self.value", "output.dense")
        ),
        "classifier.weight",
    ]
    done = update.describe()
    assert done["classifier.bias"] == {"kind": "whole"}
    assert done["classifier.weight"] == {
        "kind": "lora",
        "rank": 2,
        "alpha": 8,
        "scale": 4.0,
        "transposed": True,
        "a": "classifier.weight.lora_A",
        "b": "classifier.weight.lora_B",
    }


def test_lazy_rows_are_for_tables():
    update = update_of(BERT, trainable=("*embeddings*", "classifier.*"), embeddings="lazy-rows")
    assert update.lazy_rows == ("bert.embeddings.word_embeddings.weight",)
    assert update.describe()[update.lazy_rows[0]] == {"kind": "rows"}


def test_a_tied_tensor_answers_to_all_of_its_names():
    tied = [table("wte.weight", aliases=("head.weight",)), *layers("h.0.fc")]
    assert update_of(tied, trainable=("head.*",)).whole == ("wte.weight",)
    update = update_of(tied, trainable=("*",), frozen=("wte.*", "head.*"))
    assert update.whole == ("h.0.fc.weight", "h.0.fc.bias")


INTEGERS = Parameter(name="positions", shape=(4,), dtype="int64")


@pytest.mark.parametrize(
    ("parameters", "options", "message"),
    [
        (MOBILE, {"trainable": ("stem.*",), "frozen": ("*",)}, "leaves nothing to train"),
        (
            MOBILE,
            {"rules": (Rule(what=("bias",), channels=Fraction(1, 2)),)},
            r"channels = '1/2' on layer.0.expand.norm.bias, which is no weight of a convolution",
        ),
        (MOBILE, {"rules": (Rule(what=("bais",)),)}, "unknown selector 'bais'; known are all, wei"),
        (MOBILE, {"rules": (Rule(match=("nothing.*",)),)}, r"'nothing.\*' matches no parameter"),
        (MOBILE, {"rules": (Rule(what=("attention",)),)}, "attention names nothing in the model"),
        (MOBILE, {"rules": (Rule(blocks="last 4"),)}, "the last 4 of 3 blocks do not exist"),
        (MOBILE, {"rules": (Rule(blocks=(3,)),)}, "no block 3; the model has blocks 0 to 2"),
        (MOBILE, {"rules": (Rule(blocks="some"),)}, "write 'last 4', '2-5' or"),
        ([linear("a.weight")], {"rules": (Rule(blocks=(0,)),)}, "the model has no blocks"),
        (
            [INTEGERS, vector("b")],
            {"trainable": ("positions",)},
            "positions holds int64; only floa",
        ),
        (
            [table("wte.weight", aliases=("head.weight",))],
            {"trainable": ("*",), "frozen": ("head.*",)},
            "wte.weight and head.weight are one tensor, which cannot be trained and frozen",
        ),
        (
            BERT,
            {"lora": (LoRA(rank=2, alpha=2, targets=("*LayerNorm*",)),)},
            "names no linear layer or 1x1 convolution .bert.embeddings.LayerNorm.weight is none",
        ),
        (
            BERT,
            {"lora": (LoRA(rank=2, alpha=2, targets=("atention",)),)},
            "'atention' matches no parameter.*it is no selector either: those are all",
        ),
        (
            BERT,
            {"trainable": ("*",), "lora": (LoRA(rank=2, alpha=2, targets=("qkv",)),)},
            "is both trained and the target of LoRA",
        ),
        (
            BERT,
            {"lora": (LoRA(rank=2, alpha=2, targets=("qkv",)),) * 2},
            "gets LoRA twice",
        ),
        (MOBILE, {"trainable": ("*",), "embeddings": "lazy-rows"}, "trains no table of embeddings"),
    ],
)
def test_what_is_refused(parameters, options, message):
    with pytest.raises(PockError, match=message) as caught:
        update_of(parameters, **options)
    assert "\n" not in str(caught.value)


def test_bad_descriptions_are_refused():
    with pytest.raises(PockError, match="channels is 2"):
        Rule(channels=Fraction(2))
    with pytest.raises(PockError, match="rank of LoRA is 0"):
        LoRA(rank=0, alpha=1, targets=("qkv",))
    with pytest.raises(PockError, match="alpha of LoRA is 0"):
        LoRA(rank=1, alpha=0, targets=("qkv",))
    with pytest.raises(PockError, match="no targets"):
        LoRA(rank=1, alpha=1, targets=())


def test_integers_do_not_stand_in_the_way_of_a_wildcard():
    update = resolve(UpdateScheme(name="full", trainable=("*",)), [INTEGERS, vector("b")], {})
    assert update.whole == ("b",)


def test_every_selector_names_something():
    for word in SELECTORS:
        assert any(SELECTORS[word](model) for model in (BERT, MOBILE)), word
