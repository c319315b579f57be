import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import small_net
from PIL import Image

from pock_tvm import Trainer
from pock_tvm.artifact import manifest
from pock_tvm.artifact.dataset_file import write_dataset
from pock_tvm.errors import UnknownNameError
from pock_tvm.learning_rate import make_schedule

RUN = [sys.executable, "-c", "from pock_tvm.cli import main; main()"]


def _saved(path, **arrays):
    np.savez(path, **arrays)
    return path


def _with_gap(pixels):
    pixels = pixels.copy()
    pixels[1, 0, 2, 3] = np.nan
    return pixels


def test_json(pock, small_artifact, small_data, tmp_path):
    result = pock(
        *("train", small_artifact.directory, "--data", small_data, "--lr", 0.1, "--epochs", 8),
        *("--threads", 1, "--checkpoint", tmp_path / "c.ckpt", "--json"),
    )
    assert result["steps"] == result["steps_done"] == len(result["losses"]) == 44
    assert np.mean(result["losses"][-5:]) < 0.8 * np.mean(result["losses"][:5])
    assert result["memory"]["total_bytes"] > 0
    assert (tmp_path / "c.ckpt").exists()


def test_tables_and_the_note_that_nothing_is_kept(pock, small_artifact, small_data):
    text = pock("train", small_artifact.directory, "--data", small_data, "--lr", 0.1, "--steps", 2)
    assert "build, 2 steps\n" in text
    assert "none: the trained weights are not kept" in text
    assert "memory\n" in text
    assert "time\n" in text


def test_a_resumed_run_equals_one_run(pock, small_artifact, small_data, tmp_path):
    start = ("train", small_artifact.directory, "--data", small_data, "--lr", 0.1, "--seed", 3)
    whole = pock(*start, "--steps", 9, "--json")
    first = pock(*start, "--steps", 4, "--checkpoint", tmp_path / "c", "--json")
    rest = pock(*start, "--steps", 9, "--checkpoint", tmp_path / "c", "--resume", "--json")
    assert first["losses"] + rest["losses"] == whole["losses"]


def test_the_rate_follows_the_schedule_through_a_resumed_run(
    pock, small_artifact, small_data, tmp_path
):
    start = ("train", small_artifact.directory, "--data", small_data, "--lr", 0.1, "--json")
    start += ("--schedule", "cosine:warmup=2,end=0.1", "--checkpoint", tmp_path / "c", "--resume")
    whole = pock(*start[:-3], "--steps", 9)
    schedule = make_schedule("cosine:warmup=2,end=0.1")
    assert whole["learning_rates"] == [schedule.rate(0.1, step, 9) for step in range(9)]
    with Trainer(small_artifact.directory) as trainer:
        with np.load(small_data) as data:
            samples = data[small_net.INPUT], data["labels"]

        def stop(done, total, loss):
            if done == 5:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            trainer.fit(*samples, steps=9, learning_rate=0.1, schedule=schedule, progress=stop)
        assert [r.learning_rate for r in trainer.history] == whole["learning_rates"][:5]
        trainer.save_checkpoint(tmp_path / "c")
    rest = pock(*start, "--steps", 9)
    assert rest["learning_rates"] == whole["learning_rates"][5:]
    assert rest["losses"] == whole["losses"][5:]


def test_a_function_and_a_schedule_are_too_much(small_artifact, small_samples):
    with Trainer(small_artifact.directory) as trainer:
        losses = trainer.fit(*small_samples, steps=2, learning_rate=lambda step: 0.1 / (1 + step))
        assert len(losses) == 2
        assert [r.learning_rate for r in trainer.history] == [0.1, 0.05]
        with pytest.raises(UnknownNameError, match="give it or a schedule, not both"):
            trainer.fit(*small_samples, steps=1, learning_rate=lambda _: 0.1, schedule="cosine")


def test_a_wrong_schedule_is_refused_before_anything_is_read(refused, small_artifact, tmp_path):
    words = ("train", small_artifact.directory, "--data", tmp_path / "none.npz", "--lr", 0.1)
    assert "unknown schedule 'cosin'" in refused(*words, "--schedule", "cosin")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x, y: (x[:3], y[:3]), "holds 3 samples, fewer than the 4 of a step"),
        (lambda x, y: (x, y * 0 + 2), "is 2: there is nothing to tell apart"),
        (lambda x, y: (x, y * 0 - 100), "is -100, which the loss ignores"),
        (lambda x, y: (x, y + 2), "for more classes compile with a new head, --head 7"),
        (lambda x, y: (_with_gap(x), y), "pixels[1, 0, 2, 3] is nan"),
        (lambda x, y: (x[:, :, 1:], y), "the artifact takes (samples, 1, 8, 8)"),
        (lambda x, y: (x[:0], y[:0]), "holds no samples"),
    ],
)
def test_data_that_teach_nothing_are_refused_before_anything_is_written(
    refused, small_artifact, small_samples, tmp_path, change, said
):
    pixels, labels = change(*small_samples)
    data = _saved(tmp_path / "d.npz", pixels=pixels.astype("float32"), labels=labels)
    words = ("--lr", 0.1, "--checkpoint", tmp_path / "c")
    error = refused("train", small_artifact.directory, "--data", data, *words)
    assert said in error
    assert not (tmp_path / "c").exists()


def test_pockdata_equals_npz(pock, small_artifact, small_data, small_samples, tmp_path):
    write_dataset(tmp_path / "s.pockdata", small_artifact.description, *small_samples)
    losses = [
        pock(*("train", small_artifact.directory, "--data", d, "--lr", 0.1), "--json")["losses"]
        for d in (small_data, tmp_path / "s.pockdata")
    ]
    assert losses[0] == losses[1]


def test_training_imports_neither_tvm_nor_torch(small_artifact, small_data):
    code = (
        "import sys; from pock_tvm.cli import pock\n"
        "pock(sys.argv[1:], standalone_mode=False)\n"
        "print(sorted({'tvm', 'tvm_ffi', 'torch', 'onnx'} & set(sys.modules)), file=sys.stderr)"
    )
    arguments = ["train", str(small_artifact.directory), "--data", str(small_data), "--lr", "0.1"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    json.loads(done.stdout)
    assert done.stderr == "[]\n"


def test_ctrl_c_keeps_the_finished_steps(pock, small_artifact, small_data, tmp_path):
    checkpoint = tmp_path / "c.ckpt"
    arguments = ["train", str(small_artifact.directory), "--data", str(small_data), "--lr", "0.01"]
    running = subprocess.Popen(
        [*RUN, *arguments, "--steps=9999999", "--checkpoint", checkpoint, "--checkpoint-every=1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert out == ""
    assert "go on with --resume" in err.splitlines()[-1]
    done = pock("inspect", checkpoint, "--json")
    assert done["steps_done"] * small_net.BATCH == done["samples_drawn"] > 0


@pytest.mark.parametrize(
    ("pixels", "labels", "message"),
    [
        (np.zeros((4, 1, 9, 9), "float32"), [0] * 4, "'pixels' has shape (4, 1, 9, 9)"),
        (
            np.zeros((4, 1, 8, 8), "float64"),
            [0] * 4,
            "'pixels' is float64; the artifact takes float32",
        ),
        (np.zeros((4, 1, 8, 8), "float32"), [0, 1, 5, 0], "labels[2] is 5; valid are 0 to 4"),
        (np.zeros((4, 1, 8, 8), "float32"), [0.0] * 4, "'labels' is float64"),
        (np.zeros((4, 1, 8, 8), "float32"), [0] * 3, "different numbers of samples"),
        (np.zeros((0, 1, 8, 8), "float32"), np.zeros(0, int), "no samples"),
    ],
)
def test_bad_samples(refused, small_artifact, tmp_path, pixels, labels, message):
    data = _saved(tmp_path / "d.npz", pixels=pixels, labels=np.array(labels))
    start = ("train", small_artifact.directory, "--data", data, "--lr", 0.1)
    assert message in refused(*start, "--checkpoint", tmp_path / "c.ckpt")
    assert not (tmp_path / "c.ckpt").exists()


def test_bad_data_files(refused, small_artifact, tmp_path):
    start = ("train", small_artifact.directory, "--lr", 0.1, "--data")
    pixels = np.zeros((4, 1, 8, 8), "float32")
    (tmp_path / "text.npz").write_text("not a zip file")
    (tmp_path / "text.pockdata").write_text("not it either")
    np.save(tmp_path / "one.npy", pixels)
    missing = _saved(tmp_path / "a.npz", pixels=pixels)
    other = _saved(tmp_path / "b.npz", images=pixels, labels=np.zeros(4, int))
    pickled = _saved(tmp_path / "c.npz", pixels=pixels, labels=np.array([{}], object))
    assert "No such file" in refused(*start, tmp_path / "none.npz")
    assert "is not an .npz of plain arrays" in refused(*start, tmp_path / "text.npz")
    assert "is not a .pockdata file" in refused(*start, tmp_path / "text.pockdata")
    assert "is a single array" in refused(*start, tmp_path / "one.npy")
    assert "holds no array 'labels'" in refused(*start, missing)
    assert "holds the inputs ['images']; the model takes ['pixels']" in refused(*start, other)
    assert "is not an .npz of plain arrays" in refused(*start, pickled)


def test_a_diverging_run_keeps_the_last_good_checkpoint(
    refused, pock, small_artifact, small_data, tmp_path
):
    start = (
        "train",
        small_artifact.directory,
        "--data",
        small_data,
        "--checkpoint",
        tmp_path / "c",
    )
    pock(*start, "--lr", 0.1, "--steps", 3)
    before = (tmp_path / "c").read_bytes()
    assert str(tmp_path / "c") in refused(*start, "--lr", 1e30, "--steps", 9, "--resume")
    assert (tmp_path / "c").read_bytes() == before


def test_damaged_artifacts(refused, artifact_copy, small_data, tmp_path):
    def train(folder):
        return refused("train", folder, "--data", small_data, "--lr", 0.1)

    edited = shutil.copytree(artifact_copy, tmp_path / "edited")
    text = (edited / "manifest.json").read_text()
    (edited / "manifest.json").write_text(text.replace('"batch": 4', '"batch": 8'))
    assert text != (edited / "manifest.json").read_text()
    assert "was changed after it was written" in train(edited)

    weights = artifact_copy / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-64])
    assert "it is truncated or changed" in train(artifact_copy)
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "is damaged" in train(artifact_copy)
    assert "is not an artifact" in train(tmp_path / "nowhere")


def test_an_artifact_for_another_machine(refused, artifact_copy, small_data):
    path = artifact_copy / "manifest.json"
    body = json.loads(path.read_text())
    del body["manifest_sha256"]
    body["target"]["tvm_options"]["mtriple"] = "riscv64-linux-gnu"
    hashed = {**body, "manifest_sha256": manifest.canonical_sha256(body)}
    path.write_text(json.dumps(hashed))
    message = refused("train", artifact_copy, "--data", small_data, "--lr", 0.1)
    assert "it is for riscv64, this machine is" in message


def test_a_checkpoint_of_something_else(refused, small_artifact, small_data, tmp_path):
    (tmp_path / "c").write_bytes(b"0" * 100)
    start = ("train", small_artifact.directory, "--data", small_data, "--lr", 0.1)
    assert "has 100 bytes" in refused(*start, "--checkpoint", tmp_path / "c", "--resume")
    assert (tmp_path / "c").read_bytes() == b"0" * 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", 1, "--steps", 1], "give either --epochs or --steps"),
        (["--resume"], "need --checkpoint"),
        (["--threads", 0], "0 is not in the range"),
    ],
)
def test_wrong_usage(misused, small_artifact, small_data, arguments, message):
    start = ("train", small_artifact.directory, "--data", small_data, "--lr", 0.1)
    assert message in misused(*start, *arguments)


def test_a_folder_of_pictures_is_what_its_arrays_are(pock, refused, small_artifact, tmp_path):
    shape = small_artifact.description.tensor(small_net.INPUT).original_shape
    levels = np.random.default_rng(0).integers(0, 256, (20, *shape[2:]), np.uint8)
    labels = np.repeat(np.arange(small_net.CLASSES), 4)
    for i, (picture, label) in enumerate(zip(levels, labels, strict=True)):
        (tmp_path / "photos" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "photos" / str(label) / f"{i:02}.png")
    pixels = levels[:, None].astype("float32") * np.float32(1 / 255)
    arrays = _saved(tmp_path / "photos.npz", labels=labels, **{small_net.INPUT: pixels})
    run = ("train", small_artifact.directory, "--lr", 0.1, "--steps", 5, "--json", "--data")
    assert pock(*run, tmp_path / "photos")["losses"] == pock(*run, arrays)["losses"]
    (tmp_path / "photos" / "preprocessor_config.json").write_text('{"do_pad": true}')
    assert "do_pad is not understood" in refused(*run, tmp_path / "photos")
