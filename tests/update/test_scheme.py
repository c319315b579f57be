import pytest
from inventory_of import linear, table, values_of, vector

from pock_tvm import PockError
from pock_tvm.update import (
    UpdateScheme,
    head_names,
    learnable_names,
    load_scheme,
    parse_update,
    resolve,
)
from pock_tvm.update.selectors import SELECTORS

MODEL = (
    "stem.weight",
    "stem.bias",
    "layer.0.conv.weight",
    "layer.0.conv.bias",
    "layer.1.conv.weight",
    "layer.1.conv.bias",
    "layer.10.conv.weight",
    "classifier.weight",
    "classifier.bias",
)


def chosen(text):
    return parse_update(text, MODEL).select(MODEL)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("full", MODEL),
        ("head", MODEL[-2:]),
        ("bias", (MODEL[1], MODEL[3], MODEL[5], *MODEL[-2:])),
        ("last:1", MODEL[-3:]),
        ("last:2", MODEL[-5:]),
        ("last:3 blocks", MODEL[2:]),
        ("classifier.bias", MODEL[-1:]),
        ("classifier.bias, stem.*", (*MODEL[:2], MODEL[-1])),
        ("layer.1.*", MODEL[4:6]),  # and not layer.10
    ],
)
def test_presets_and_patterns(text, names):
    assert chosen(text) == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("none", "unknown update 'none'; write full, bias, head, last:N"),
        ("last:4", "write last:N with N from 1 to 3"),
        ("last:0", "write last:N"),
        ("last:two", "write last:N"),
        ("clasifier.*", r"'clasifier.\*' matches no parameter; near matches: classifier.bias"),
        ("stem.*,qqqqqqqqqqqq.*", r"pattern 'qqqqqqqqqqqq.\*' matches no parameter$"),
        ("missing.toml", "cannot read update scheme missing.toml: No such file"),
    ],
)
def test_bad_text(text, message):
    with pytest.raises(PockError, match=message):
        chosen(text)


def test_toml(tmp_path):
    path = tmp_path / "last.toml"
    path.write_text('trainable = ["layer.*", "*.bias"]\nfrozen = ["layer.0.*"]\n')
    scheme = load_scheme(path)
    assert scheme == UpdateScheme(
        name="last", trainable=("layer.*", "*.bias"), frozen=("layer.0.*",)
    )
    assert scheme.select(MODEL) == ("stem.bias", *MODEL[4:7], "classifier.bias")
    assert chosen(str(path)) == scheme.select(MODEL)
    described = scheme.describe()
    assert (described["name"], described["trainable"]) == ("last", ["layer.*", "*.bias"])
    assert described["frozen"] == ["layer.0.*"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("trainable = [", "is not TOML"),
        (b"\xff", "is not TOML"),
        ("trainabel = []", r"unknown keys \['trainabel'\]"),
        ("trainable = 'x'", "trainable must be a list of name patterns"),
        ("trainable = [1]", "trainable must be a list of name patterns"),
        ("name = 'x'", "names nothing in `trainable`, "),
    ],
)
def test_bad_toml(tmp_path, content, message):
    path = tmp_path / "scheme.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(PockError, match=message) as caught:
        load_scheme(path)
    assert "\n" not in str(caught.value)


def test_a_scheme_that_freezes_all_is_an_error():
    scheme = UpdateScheme(name="none", trainable=("stem.*",), frozen=("*",))
    with pytest.raises(PockError, match="leaves nothing to train"):
        scheme.select(MODEL)


def test_a_tied_head_is_the_table():
    words = table("words.weight", is_output_layer=True, aliases=("head.weight",))
    parameters = [words, linear("layer.0.fc.weight"), vector("norm.bias")]
    names = learnable_names(parameters)
    for text, more in (("head", set()), ("bias", {"norm.bias"}), ("last:1", set(names[1:]))):
        scheme = parse_update(text, names, head_names(parameters))
        assert "head.weight" in scheme.trainable
        update = resolve(scheme, parameters, values_of(parameters))
        assert set(update.whole) == {"words.weight"} | more
    assert SELECTORS["head"](parameters) == [words]


def test_a_tied_head_without_a_name_of_its_own_is_the_table():
    parameters = [table("params.words", is_output_layer=True), vector("params.scale")]
    assert head_names(parameters) == ("params.words",)


def test_a_tied_head_has_what_its_module_holds():
    words = table("words.weight", is_output_layer=True, aliases=("decoder.weight",))
    bias = vector("predictions.bias", aliases=("decoder.bias",))
    assert head_names([words, bias, vector("norm.bias")]) == ("decoder.weight", "decoder.bias")
