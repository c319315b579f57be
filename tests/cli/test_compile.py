import importlib
import json

import numpy as np
import pytest
import small_net

from pock_tvm import Trainer, load_artifact
from pock_tvm.cli import compile as verb
from pock_tvm.cli.progress import ProgressLine

REQUIRED = {
    "arena_bytes",
    "arena_lower_bound_bytes",
    "transient_bytes",
    "weights_bytes",
    "trainable_parameters",
    "kernel_calls",
    "compile_s",
}


def test_json_and_every_option(pock, tmp_path, small_samples):
    report = pock(
        *("compile", "small_net:build", "-o", tmp_path / "net", "--batch", 3, "--update", "head"),
        *("--optimizer", "adamw", "--betas", 0.8, 0.99, "--eps", 1e-6, "--weight-decay", 0.1),
        *("--label-smoothing", 0.1, "--ignore-index", -1, "--keep-gradients", "--json"),
    )
    assert report.keys() >= REQUIRED
    assert report["trainable_parameters"] == 16 * 5 + 5
    description = load_artifact(tmp_path / "net").description
    assert description.optimizer == {
        "name": "adamw",
        "beta1": 0.8,
        "beta2": 0.99,
        "eps": 1e-6,
        "weight_decay": 0.1,
        "decay_matrices_only": False,
    }
    assert description.loss == {"name": "cross_entropy", "label_smoothing": 0.1, "ignore_index": -1}
    assert description.batch == 3
    with Trainer(tmp_path / "net") as trainer:
        trainer.step(small_samples[0][:3], small_samples[1][:3], 0.1)
        assert trainer.tensor("gradient.classifier.bias").any()


def test_tables(pock, tmp_path):
    text = pock("compile", "small_net:build", "-o", tmp_path / "net", "--update", "bias")
    for title in ("build for host, batches of 8", "memory", "time"):
        assert f"{title}\n" in text
    assert "update                  bias\n" in text


def test_a_memory_budget_is_met_and_priced(pock, tmp_path):
    freely = pock("compile", "small_transformer:build", "-o", tmp_path / "net", "--json")
    frontier = freely["memory_frontier"]
    sizes = [point["arena_bytes"] for point in frontier]
    assert sizes == sorted(set(sizes), reverse=True)
    assert freely["arena_bytes"] in sizes
    least = sizes[-1]
    assert least < freely["arena_bytes"]
    tight = pock(
        *("compile", "small_transformer:build", "-o", tmp_path / "tight"),
        *("--memory-budget", f"{least + 256}B", "--json"),
    )
    assert tight["arena_bytes"] <= least + 256
    assert tight["recomputed_share"] > freely["recomputed_share"]


def test_the_frontier_is_drawn(pock, misused, tmp_path):
    arguments = ("compile", "small_net:build", "-o", tmp_path / "net", "--frontier")
    text = pock(*arguments, tmp_path / "frontier.svg")
    assert "samples at a time" in text
    drawing = (tmp_path / "frontier.svg").read_text()
    assert "<svg" in drawing
    assert "ends in .png or .svg" in misused(*arguments, tmp_path / "frontier.txt")


def test_attention_in_tiles_is_counted(pock, tmp_path):
    arguments = ("compile", "small_transformer:build", "--attention")
    text = pock(*arguments, "flash", "-o", tmp_path / "tiles")
    assert "in tiles at 1 of 1 places" in text
    assert "in tiles" not in pock(*arguments, "full", "-o", tmp_path / "full")


def test_weights_in_integers_are_counted(pock, refused, tmp_path):
    arguments = ("compile", "small_net:build", "--frozen", "int8")
    text = pock(*arguments, "--update", "head", "-o", tmp_path / "net")
    assert "2 weights" in text
    assert "let less learn" in refused(*arguments, "-o", tmp_path / "full")


def test_momentum_reaches_the_optimizer(monkeypatch, pock, tmp_path):
    seen = {}
    # `pock_tvm.compile` is the function; the module of that name stands in sys.modules.
    home = importlib.import_module("pock_tvm.compile")
    monkeypatch.setattr(home, "compile", lambda *a, **k: seen.update(k) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pock(
            *("--debug", "compile", "small_net:build", "-o", tmp_path / "net", "--momentum", 0.9),
            *("--nesterov", "--batch-norm", "train", "--executable"),
        )
    assert (seen["optimizer"].momentum, seen["optimizer"].nesterov) == (0.9, True)
    assert (seen["batch_norm"], seen["executable"]) == ("train", True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "raspbery-pi-4"], "did you mean 'raspberry-pi-4'?"),
        (["--update", "clasifier.*"], "near matches: classifier.bias"),
        (["--update", "last:9"], "write last:N with N from 1 to"),
        (["--update", "everything"], "unknown update 'everything'"),
        (["--nesterov"], "nesterov needs a momentum above 0"),
        (["--optimizer", "adagrad"], "unknown optimizer 'adagrad'; known are sgd, adam, adamw"),
        (["--optimizer", "adam:gamma=1"], "optimizer 'adam' has no option 'gamma'; it has"),
        (["--optimizer", "adam:eps"], "'adam:eps': 'eps' is not option=value"),
        (["--optimizer", "rmsprop:centered=maybe"], "option centered is 'maybe', not true or"),
        (["--loss", "hinge"], "unknown loss 'hinge'; known are cross_entropy"),
        (["--clip", "norm:1"], "unknown clipping 'norm'; known are value, tensor-norm"),
        (["--clip", "value"], "clipping 'value' needs a limit: value:1.0"),
        (["--clip", "global-norm:-1"], "limit must be > 0"),
        (["--memory-budget", "1KB"], "the memory budget is 1,000; make the batch smaller"),
    ],
)
def test_bad_names_write_nothing(refused, tmp_path, arguments, message):
    assert message in refused("compile", "small_net:build", "-o", tmp_path / "net", *arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("zoo:mobilenet_v3", "did you mean 'mobilenet_v2'?"),
        ("small_net:biuld", "has no function 'biuld'"),
        ("nowhere.at_all:build", "no module 'nowhere'"),
        ("missing.pt2", "no such file: missing.pt2"),
        ("small_net", "write a .onnx, .pt2 or .tflite file, package.module:function, or zoo:NAME"),
    ],
)
def test_bad_models_write_nothing(refused, tmp_path, model, message):
    assert message in refused("compile", model, "-o", tmp_path / "net")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--betas", "0.9", "0.99"],
            "--betas is not for --optimizer sgd, which takes weight_decay",
        ),
        (["--optimizer", "adamw", "--momentum", "0.9"], "--momentum is not for --optimizer adamw"),
        (["--loss", "mse", "--ignore-index", "0"], "--ignore-index is not for --loss mse"),
        (["--optimizer", "lion", "--eps", "1"], "--eps is not for --optimizer lion, which takes"),
        (["--batch", "0"], "0 is not in the range"),
        (["--memory-budget", "64 miles"], "'64 miles' is no size; write 64MB, 32MiB"),
    ],
)
def test_options_that_do_not_fit_together_are_wrong_usage(misused, tmp_path, arguments, message):
    stderr = misused("compile", "small_net:build", "-o", tmp_path / "net", *arguments)
    assert message in " ".join(stderr.split())


@pytest.mark.parametrize(
    ("words", "written"),
    [
        (("--no-library",), False),
        (("--target", "x86-64-v3"), False),
        (("--target", "x86-64-v3", "--library", "--no-executable"), True),
    ],
)
def test_the_shared_library_is_a_choice(pock, tmp_path, words, written):
    pock("compile", "small_net:build", "-o", tmp_path / "net", "--update", "head", *words)
    assert (tmp_path / "net" / "libpock_model.so").exists() == written


def test_a_folder_that_is_not_an_artifact_is_left_alone(refused, tmp_path):
    (tmp_path / "thesis.txt").write_text("chapter 1")
    assert "is not an artifact" in refused("compile", "small_net:build", "-o", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_progress_off_a_terminal_is_plain_lines(monkeypatch, capsys):
    monkeypatch.setattr("pock_tvm.cli.progress._SECONDS_BETWEEN_LINES", 0)
    with ProgressLine() as progress:
        progress("import", 0, 1)
        progress("train", 1, 4, "loss 1.5")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["import", "train 1/4, loss 1.5, 0 s left"]
    assert set(progress.seconds) == {"import", "train"}


def test_the_report_is_plain_json(pock, tmp_path):
    report = pock(
        "compile", "small_net:build", "-o", tmp_path / "net", "--update", "head", "--json"
    )
    assert json.loads(json.dumps(report)) == report
    assert verb.compile_command.name == "compile"


def test_a_new_head(pock, small_samples, tmp_path):
    words = ("--batch", small_net.BATCH, "--head", 7, "--update", "head")
    pock("compile", "small_net:build", "-o", tmp_path / "net", *words)
    pixels, labels = small_samples
    np.savez(tmp_path / "d.npz", pixels=pixels, labels=labels + 2)
    found = pock("evaluate", tmp_path / "net", "--data", tmp_path / "d.npz", "--json")
    assert found["samples"] == 22
    checked = pock("check", "small_net:build", "--head", 7, "--update", "head", "--json")
    assert checked["loss"] > 0


def test_the_precision_of_products_is_chosen_kept_and_refused(pock, refused, tmp_path):
    given = ("compile", "small_net:build", "-o", tmp_path / "net")
    line = refused(*given, "--target", "raspberry-pi-4", "--precision", "bf16")
    assert "raspberry-pi-4 has no bfloat16 products" in line
    assert not (tmp_path / "net").exists()
    mac = (*given, "--target", "apple-m2", "--precision", "bf16", "--no-library", "--no-executable")
    assert pock(*mac, "--json")["precision"] == "bf16"
    assert pock("inspect", tmp_path / "net", "--json")["precision"] == "bf16"
    assert "\n  precision  bf16\n" in pock("inspect", tmp_path / "net")
    assert "precision               bf16\n" in pock(*mac)
