import json
import os
import re
import shutil
import subprocess
import sys

import fake
import numpy as np
import pytest

from pock_tvm import Trainer
from pock_tvm.artifact.dataset_file import write_dataset
from pock_tvm.errors import BatchError
from pock_tvm.learning_rate import make_schedule

COUNT, STEPS, RATE = 10, 12, 0.05


@pytest.fixture
def data(artifact, tmp_path):
    write_dataset(tmp_path / "data", artifact.description, *fake.samples(COUNT))
    return tmp_path / "data"


def run(artifact, command, data, *words, emulator=()):
    line = [*emulator, artifact.executable, command, "--weights", artifact.weights]
    line += ["--data", data, *words]
    return subprocess.run(list(map(str, line)), capture_output=True, text=True, check=False)


def losses_of(done):
    assert done.returncode == 0, done.stderr
    *lines, summary = done.stdout.splitlines()
    words = [line.split() for line in lines]
    assert [(w[0], w[1], w[2]) for w in words] == [
        ("step", str(i + 1), "loss") for i in range(len(words))
    ]
    assert json.loads(summary)["loss"] == float(words[-1][3])
    return [np.float32(w[3]) for w in words]


def trainer_losses(folder, seed=0):
    with Trainer(folder) as trainer:
        found = trainer.fit(*fake.samples(COUNT), steps=STEPS, learning_rate=RATE, seed=seed)
        return [np.float32(loss) for loss in found]


def test_losses_are_those_of_the_trainer(artifact, data):
    done = run(artifact, "train", data, "--steps", STEPS, "--lr", RATE)
    assert losses_of(done) == trainer_losses(artifact.directory)


def test_samples_in_the_order_of_the_file(artifact, data):
    x, labels = fake.samples(COUNT)
    with Trainer(artifact.directory) as trainer:
        drawn = [np.arange(step * 4, step * 4 + 4) % COUNT for step in range(STEPS)]
        wanted = [np.float32(trainer.step(x[rows], labels[rows], RATE)) for rows in drawn]
    done = run(artifact, "train", data, "--in-order", "--steps", STEPS, "--lr", RATE)
    assert losses_of(done) == wanted


@pytest.mark.parametrize("seed", [0, 7, 2**63 - 1])
def test_the_trainer_and_the_program_take_turns_on_one_run(artifact, data, tmp_path, seed):
    wanted = trainer_losses(artifact.directory, seed)
    saved, samples = tmp_path / "saved", fake.samples(COUNT)
    words = ("--lr", RATE, "--checkpoint", saved, "--seed", seed)
    first = run(artifact, "train", data, "--steps", 3, *words)
    with Trainer(artifact.directory) as trainer:
        options = {"learning_rate": RATE, "seed": seed, "checkpoint": saved, "resume": True}
        found = trainer.fit(*samples, steps=7, **options)
    rest = run(artifact, "train", data, "--steps", 5, "--lr", RATE, "--resume", saved)
    lines = [*first.stdout.splitlines()[:-1], *rest.stdout.splitlines()[:-1]]
    losses = [np.float32(line.split()[3]) for line in lines]
    assert losses[:3] + [np.float32(loss) for loss in found] + losses[3:] == wanted


def test_what_takes_no_picture_is_not_augmented(artifact, data):
    done = run(artifact, "train", data, "--steps", 1, "--lr", RATE, "--augment", "flip")
    assert (done.returncode, done.stdout) == (1, "")
    assert "takes no single picture: leave --augment out" in done.stderr
    with Trainer(artifact.directory) as trainer:
        with pytest.raises(BatchError, match="takes no single picture: leave augmentation out"):
            trainer.fit(*fake.samples(COUNT), steps=1, learning_rate=RATE, augment="flip")
        assert trainer.steps_done == 0


def test_another_seed_does_not_go_on_with_a_run(artifact, data, tmp_path):
    saved = tmp_path / "saved"
    run(artifact, "train", data, "--steps", 2, "--lr", RATE, "--checkpoint", saved, "--seed", 3)
    good = saved.read_bytes()
    words = ("--steps", 1, "--lr", RATE, "--resume", saved, "--checkpoint", saved)
    done = run(artifact, "train", data, *words, "--seed", 0)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == ("pock_train: the run was started with seed 3, not 0; resume with it\n")
    assert saved.read_bytes() == good
    assert run(artifact, "train", data, *words, "--seed", 3).returncode == 0


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_losses_do_not_depend_on_the_threads(artifact, data, threads):
    done = run(artifact, "train", data, "--steps", STEPS, "--lr", RATE, "--threads", threads)
    assert losses_of(done) == trainer_losses(artifact.directory)


def test_a_resumed_run_goes_on_where_the_saved_one_stopped(artifact, data, tmp_path):
    saved = tmp_path / "saved"
    options = ("--lr", RATE, "--checkpoint", saved)
    whole = run(artifact, "train", data, "--steps", 9, "--lr", RATE).stdout.splitlines()
    first = run(artifact, "train", data, "--steps", 4, *options, "--save-every", 3)
    rest = run(artifact, "train", data, "--steps", 5, *options, "--resume", saved)
    assert [*first.stdout.splitlines()[:-1], *rest.stdout.splitlines()[:-1]] == whole[:-1]


def test_the_rate_follows_the_schedule_through_a_resumed_run(artifact, data, tmp_path):
    schedule = make_schedule("cosine:warmup=3,end=0.1")
    samples = fake.samples(COUNT)
    with Trainer(artifact.directory) as trainer:
        found = trainer.fit(*samples, steps=9, learning_rate=RATE, schedule=schedule)
        wanted = [np.float32(loss) for loss in found]
    saved = tmp_path / "saved"
    options = ("--lr", RATE, "--schedule", "cosine:warmup=3,end=0.1", "--checkpoint", saved)
    first = run(artifact, "train", data, "--steps", 4, "--total-steps", 9, *options)
    rest = run(artifact, "train", data, "--steps", 5, *options, "--resume", saved)
    lines = [*first.stdout.splitlines()[:-1], *rest.stdout.splitlines()[:-1]]
    assert [np.float32(line.split()[3]) for line in lines] == wanted
    last = json.loads(rest.stdout.splitlines()[-1])["learning_rate"]
    assert last == pytest.approx(schedule.rate(RATE, 8, 9), rel=1e-7)


def test_a_diverged_run_stops_and_keeps_the_last_good_checkpoint(artifact, data, tmp_path):
    saved = tmp_path / "saved"
    run(artifact, "train", data, "--steps", 2, "--lr", RATE, "--checkpoint", saved)
    good = saved.read_bytes()
    words = ("--steps", 50, "--lr", 1e15, "--checkpoint", saved)
    done = run(artifact, "train", data, *words, "--resume", saved)
    assert done.returncode == 1
    assert "loss of step" in done.stderr
    assert done.stderr.count("\n") == 1
    assert saved.read_bytes() == good
    done = run(artifact, "train", data, *words, "--save-every", 1)
    assert done.returncode == 1
    assert run(artifact, "evaluate", data, "--resume", saved).returncode == 0


@pytest.mark.parametrize("made", [fake.description(), fake.without_ignored_label()])
def test_evaluate_agrees_with_the_trainer(tmp_path, data, made):
    built = fake.write(tmp_path / "a", made=made, executable=True)
    x, labels = fake.samples_ending_right(COUNT)
    write_dataset(data, made, x, labels)
    found = json.loads(run(built, "evaluate", data).stdout)
    with Trainer(built.directory) as trainer:
        expected = trainer.evaluate(x, labels)
    assert found["loss"] == pytest.approx(expected.loss, rel=1e-6)
    assert found["accuracy"] == pytest.approx(expected.accuracy)
    assert found["samples"] == expected.samples == COUNT


def test_predict_writes_the_rows_of_the_trainer(artifact, data, tmp_path):
    done = run(artifact, "predict", data, "--output", tmp_path / "rows")
    rows = np.fromfile(tmp_path / "rows", np.float32).reshape(COUNT, 3)
    with Trainer(artifact.directory) as trainer:
        np.testing.assert_array_equal(rows, trainer.predict(fake.samples(COUNT)[0]))
    best = [int(line.split()[3]) for line in done.stdout.splitlines()[:-1]]
    assert best == rows.argmax(1).tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw[:-1], "has 4287 bytes, not 4288: truncated"),
        (lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]), "does not have the SHA-256"),
        (lambda raw: b"", "Invalid argument"),
    ],
)
def test_damaged_weights_are_refused(artifact, artifact_copy, data, change, message):
    weights = artifact_copy / "weights.safetensors"
    weights.write_bytes(change(weights.read_bytes()))
    command = [artifact.executable, "train", "--weights", weights, "--data", data]
    done = subprocess.run(
        [*map(str, command), "--steps", "1", "--lr", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("pock_train: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_samples_that_vanish_during_a_run_are_an_error_and_no_crash(artifact, data):
    command = [artifact.executable, "train", "--weights", artifact.weights, "--data", data]
    command += ["--steps", 10**9, "--lr", 1e-9]
    options = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(list(map(str, command)), **options) as process:
        assert process.stdout.readline().startswith("step 1 ")
        os.truncate(data, 64)
        _, said = process.communicate()
    assert process.returncode == 1
    why = "(I/O|Input/output) error"  # as musl or glibc names it
    assert re.fullmatch(f"pock_train: cannot read {re.escape(str(data))}: {why}\n", said)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--steps", "1"], "--weights and --data are needed"),
        (["dance"], "train, evaluate or predict?"),
        ([], "train, evaluate or predict?"),
        (["train", "--steps"], "no value after --steps"),
        (["train", "--steps", "none"], "not a positive number after --steps"),
        (["train", "--steps", "-1"], "not a positive number after --steps"),
        (["train", "--seed", "-1"], "not a whole number from 0 after --seed"),
        (["train", "--seed", "9" * 20], "not a whole number from 0 after --seed"),
        (["train", "--seed"], "no value after --seed"),
        (["train", "--augment", "crop"], "not crop=PIXELS, flip or both: crop"),
        (["train", "--lr", "x"], "not a number after --lr"),
        (["train", "--speed", "9"], "no such option: --speed"),
        (["train", "--weights", "a", "--data", "b"], "--steps and --lr are needed"),
    ],
)
def test_misuse_is_explained(artifact, words, message):
    done = subprocess.run(
        [str(artifact.executable), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[0]
    assert "usage: pock_train" in done.stderr


def test_threads_that_the_system_refuses_are_named(artifact, data):
    script = (
        "import os, resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_AS, (16 << 20, 16 << 20))\n"  # a stack is half a MB
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    words = ("--steps", 1, "--lr", 1, "--threads", 64)
    done = run(artifact, "train", data, *words, emulator=[sys.executable, "-c", script])
    assert done.returncode == 1
    assert re.match(
        r"pock_train: the system refused thread \d+ of 64: .*ask for fewer", done.stderr
    )


@pytest.mark.skipif(not shutil.which("qemu-aarch64"), reason="needs qemu-aarch64 (qemu-user)")
def test_a_raspberry_pi_trains_to_the_same_losses(artifact, data, tmp_path):
    built = fake.write(tmp_path / "pi", fake.PI, executable=True)
    saved = tmp_path / "saved"
    words = ("--steps", STEPS, "--lr", RATE, "--threads", 4, "--checkpoint", saved)
    done = run(built, "train", data, *words, emulator=["qemu-aarch64"])
    np.testing.assert_allclose(losses_of(done), trainer_losses(artifact.directory), rtol=1e-5)
    with Trainer(artifact.directory) as trainer:  # a checkpoint moves between machines
        trainer.load_checkpoint(saved)
        assert trainer.steps_done == STEPS
