from fractions import Fraction

import pytest

from pock_tvm import PockError
from pock_tvm.update import LoRA, Rule, UpdateScheme, load_scheme

EVERYTHING = """
name = "late blocks"
trainable = ["classifier.*"]
frozen = ["*.embeddings.*"]
pick = "random"
seed = 3
embeddings = "lazy-rows"

[[update]]
what = "first_conv"
blocks = "last 7"
channels = "1/4"

[[update]]
what = ["attention", "first_ffn"]
match = ["text_model.*"]
blocks = [2, 3]
channels = 0.125

[lora]
rank = 8
alpha = 16
targets = ["attention"]
blocks = "last 4"
seed = 5
"""


def loaded(tmp_path, text):
    path = tmp_path / "scheme.toml"
    path.write_text(text)
    return load_scheme(path)


def test_every_key(tmp_path):
    scheme = loaded(tmp_path, EVERYTHING)
    assert scheme == UpdateScheme(
        name="late blocks",
        trainable=("classifier.*",),
        frozen=("*.embeddings.*",),
        rules=(
            Rule(what=("first_conv",), blocks="last 7", channels=Fraction(1, 4)),
            Rule(
                what=("attention", "first_ffn"),
                match=("text_model.*",),
                blocks=(2, 3),
                channels=Fraction(1, 8),
            ),
        ),
        lora=(LoRA(rank=8, alpha=16.0, targets=("attention",), blocks="last 4", seed=5),),
        pick="random",
        seed=3,
        embeddings="lazy-rows",
    )
    described = scheme.describe()
    assert described["update"][0]["channels"] == "1/4"
    assert described["lora"][0]["targets"] == ["attention"]


def test_several_tables_of_lora(tmp_path):
    one = '[[lora]]\nrank = {}\nalpha = 1\ntargets = "{}"\n'
    scheme = loaded(tmp_path, one.format(2, "qkv") + one.format(4, "first_ffn"))
    assert [lora.rank for lora in scheme.lora] == [2, 4]
    assert scheme.name == "scheme"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[update]]\nwhat = 'bais'", "update 1: unknown selector 'bais'; known are all, weight"),
        ("[[update]]\nratio = 1", r"update 1 has unknown keys \['ratio'\]; use what, match"),
        ("[[update]]\nchannels = 0", "channels is 0; write a share such as '1/4'"),
        ("[[update]]\nchannels = 2", "channels is 2; write a share"),
        ("[[update]]\nchannels = 'all'", "channels is 'all'; write a share"),
        ("[[update]]\nchannels = '1/0'", "channels is '1/0'; write a share"),
        ("[[update]]\nchannels = inf", "channels is inf; write a share"),
        ("[[update]]\nchannels = true", "channels is True; write a share"),
        ("[[update]]\nblocks = 3", "blocks is 3; write 'last 4'"),
        ("[[update]]\nmatch = 3", "match must be a list of name patterns"),
        ("update = 3", r"update must be a table; write \[\[update\]\]"),
        ("[lora]\nrank = 8", "lora 1 lacks alpha; write rank, alpha and targets"),
        (
            "[lora]\nrank = 'x'\nalpha = 1\ntargets = 'a'",
            "rank is 'x'; it must be a whole number",
        ),
        ("[lora]\nrank = 1\nalpha = 'x'\ntargets = 'qkv'", "alpha is 'x'; it must be a number"),
        ("trainable = ['a']\npick = 'best'", "pick is 'best'; write one of magnitude, magnitude-"),
        (
            "trainable = ['a']\nembeddings = 'rows'",
            "embeddings is 'rows'; write one of exact, lazy",
        ),
        ("trainable = ['a']\nseed = -1", "seed is -1; it must be 0 or more"),
        ("trainable = ['a']\nname = 1", "name is 1; it must be a text"),
        ("name = 'x'", r"names nothing in `trainable`, `\[\[update\]\]` or `\[lora\]`"),
    ],
)
def test_bad_toml(tmp_path, text, message):
    with pytest.raises(PockError, match=message) as caught:
        loaded(tmp_path, text)
    assert "\n" not in str(caught.value)
