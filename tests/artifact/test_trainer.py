import subprocess
import sys
from dataclasses import replace

import fake
import numpy as np
import pytest
from safetensors.numpy import load_file

from pock_tvm import Trainer
from pock_tvm.errors import BatchError, DivergedError, PockError, UnknownNameError


def test_steps_follow_the_reference(trainer):
    x, labels = fake.samples(fake.BATCH)
    reference = fake.Reference()
    for _ in range(8):
        loss = trainer.step(x, labels, 0.05)
        assert loss == pytest.approx(reference.step(x, labels, 0.05), rel=1e-5)
    np.testing.assert_allclose(trainer.tensor("fc.weight")[0], reference.w, rtol=1e-5)
    np.testing.assert_allclose(trainer.tensor("fc.bias.momentum"), reference.bm, rtol=1e-4)
    assert trainer.steps_done == 8


@pytest.mark.parametrize("threads", [1, 2, 3, 4, 8])
def test_any_number_of_threads_gives_the_same_bits(artifact, threads):
    x, labels = fake.samples(fake.BATCH)
    with Trainer(artifact.directory, threads=1) as one:
        expected = [one.step(x, labels, 0.05) for _ in range(20)]
    with Trainer(artifact.directory, threads=threads) as many:
        assert [many.step(x, labels, 0.05) for _ in range(20)] == expected


def test_fewer_threads_can_be_asked_for_later_but_not_more(artifact):
    x, labels = fake.samples(fake.BATCH)
    with Trainer(artifact.directory, threads=4) as trainer:
        for threads in (2, 4, 1):
            trainer.set_threads(threads)
            trainer.step(x, labels, 0.01)
        with pytest.raises(PockError, match="5 threads asked for; the session was started with 4"):
            trainer.set_threads(5)


def test_two_trainers_share_nothing(artifact):
    x, labels = fake.samples(fake.BATCH)
    with Trainer(artifact.directory) as one, Trainer(artifact.directory) as other:
        first = [one.step(x, labels, 0.05) for _ in range(5)]
        assert other.steps_done == 0
        assert [other.step(x, labels, 0.05) for _ in range(5)] == first


def test_frozen_weights_cannot_be_written(artifact):
    code = (
        "import sys, fake; from pock_tvm import Trainer\n"
        "Trainer(sys.argv[1]).step(*fake.samples(4), -9.0)"  # this rate makes the fake step try
    )
    command = [sys.executable, "-c", code, str(artifact.directory)]
    done = subprocess.run(command, cwd=fake.SOURCE.parent, capture_output=True, check=False)
    assert done.returncode == -11


@pytest.mark.parametrize("count", [1, 3, 4, 5, 11])
@pytest.mark.parametrize("ignoring", [True, False])
def test_evaluate_takes_any_number_of_samples(artifact, tmp_path, count, ignoring):
    folder = artifact.directory
    if not ignoring:
        folder = fake.write(tmp_path / "strict", made=fake.without_ignored_label()).directory
    x, labels = fake.samples_ending_right(count)
    reference = fake.Reference()
    losses = reference.losses(x, labels)
    with Trainer(folder) as trainer:
        found = trainer.evaluate(x, labels)
    assert found.loss == pytest.approx(losses.mean(), rel=1e-5)
    assert found.accuracy == pytest.approx((losses < 0.25).mean())
    assert found.samples == count


def test_evaluate_is_a_mean_over_the_labels_that_count(trainer):
    x, labels = fake.samples(11)
    labels[[0, 4, 5, 6, 7]] = -100  # the second batch holds nothing else
    losses = fake.Reference().losses(x, labels)[labels != -100]
    found = trainer.evaluate(x, labels)
    assert found.loss == pytest.approx(losses.mean(), rel=1e-5)
    assert found.accuracy == pytest.approx((losses < 0.25).mean())
    with pytest.raises(BatchError, match="every label is -100"):
        trainer.evaluate(x, np.full(11, -100))


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_predict_takes_any_number_of_samples(artifact, threads):
    x, _ = fake.samples(7)
    reference = fake.Reference()
    out = (x * reference.scale) @ reference.w
    expected = -((out[:, None] - np.arange(3)) ** 2)
    with Trainer(artifact.directory, threads=threads) as trainer:
        np.testing.assert_allclose(trainer.predict({"x": x}), expected, rtol=1e-4, atol=1e-5)


def test_fit_draws_every_sample_once_per_epoch():
    from pock_tvm.sampling import samples_at

    run = np.concatenate([samples_at(3, 10, start, 4) for start in range(0, 40, 4)])
    for epoch in range(4):
        assert sorted(run[10 * epoch : 10 * epoch + 10]) == list(range(10))
    assert list(run[:10]) != list(run[10:20])
    assert list(run[:10]) != list(samples_at(4, 10, 0, 10))
    assert list(samples_at(3, 10, 8, 4)) == list(run[8:12])


def test_an_interrupted_fit_goes_on_at_the_same_sample(artifact, tmp_path):
    x, labels = fake.samples(10)
    run = {"steps": 9, "learning_rate": lambda step: 0.05 / (1 + step), "seed": 5}
    with Trainer(artifact.directory) as whole:
        losses = whole.fit(x, labels, **run)
        weight = whole.tensor("fc.weight")

    class PowerCutError(Exception):
        pass

    def stop(done, total, loss):
        if done == 7:
            raise PowerCutError

    saving = {"checkpoint": tmp_path / "run.safetensors", "checkpoint_every": 3}
    with Trainer(artifact.directory) as cut, pytest.raises(PowerCutError):
        cut.fit(x, labels, **run, **saving, progress=stop)
    with Trainer(artifact.directory) as again:
        assert again.fit(x, labels, **run, **saving, resume=True) == losses[6:]
        np.testing.assert_array_equal(again.tensor("fc.weight"), weight)
        assert again.steps_done == 9
        assert again.fit(x, labels, **run, **saving, resume=True) == []
        with pytest.raises(BatchError, match="started with seed 5, not 6"):
            again.fit(x, labels, **{**run, "seed": 6}, resume=True)


def test_a_diverged_fit_keeps_the_last_good_checkpoint(artifact, tmp_path):
    x, labels = fake.samples(8)
    path = tmp_path / "run.safetensors"
    with Trainer(artifact.directory) as trainer:
        trainer.fit(x, labels, steps=2, learning_rate=0.01, checkpoint=path)
        good = path.read_bytes()
        with pytest.raises(DivergedError, match=r"loss of step \d+ is .*inf.*last good checkpoint"):
            trainer.fit(x, labels, steps=50, learning_rate=1e15, checkpoint=path)
        with pytest.raises(DivergedError, match="holds NaN or infinity; no checkpoint is written"):
            trainer.save_checkpoint(path)
        assert path.read_bytes() == good
        trainer.load_checkpoint(path)
        assert trainer.steps_done == 2
        assert np.isfinite(trainer.step(x[:4], labels[:4], 0.01))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x[:3], y[:3]), "the data holds 3 samples, fewer than the 4 of a step"),
        (lambda x, y: (x, y * 0 + 1), "every label of the data is 1: .* two classes at least"),
        (lambda x, y: (x, y * 0 - 100), "every label of the data is -100, which the loss ignores"),
    ],
)
def test_a_fit_that_could_learn_nothing_is_refused(trainer, tmp_path, change, message):
    before = trainer.tensor("fc.weight")
    saved = tmp_path / "c"
    with pytest.raises(BatchError, match=message) as raised:
        trainer.fit(*change(*fake.samples(9)), steps=3, learning_rate=0.1, checkpoint=saved)
    assert "\n" not in str(raised.value)
    np.testing.assert_array_equal(trainer.tensor("fc.weight"), before)
    assert trainer.steps_done == 0
    assert not saved.exists()


X, LABELS = fake.samples(fake.BATCH)


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        ({"y": X}, LABELS, r"inputs are named \['y'\]; the model takes \['x'\]"),
        ([X, X], LABELS, "2 inputs given; the model takes 1"),
        (X[:, :5], LABELS, r"'x' has shape \(4, 5\); the artifact takes \(samples, 6\)"),
        (X[0], LABELS, r"'x' has shape \(6,\)"),
        (X[:3], LABELS[:3], "3 samples given; the artifact was compiled for batches of 4"),
        (X, LABELS[:3], "different numbers of samples: 'x' 4, 'labels' 3"),
        (X.astype(np.float64), LABELS, r"'x' is float64; .* float32 .*astype\('float32'\)"),
        (X, LABELS.astype(np.float32), "'labels' is float32; the artifact takes int32"),
        (X, np.array([0, 1, 3, 2]), r"labels\[2\] is 3; valid are 0 to 2, or -100 to ignore"),
        (X, np.array([0, -1, 1, 2]), r"labels\[1\] is -1"),
        (X, np.array([0, 1, 1 << 40, 2]), "'labels' holds integers that do not fit int32"),
        (X[:0], LABELS[:0], "hold no samples"),
    ],
)
def test_a_wrong_batch_is_refused_in_one_line(trainer, inputs, labels, message):
    before = trainer.tensor("fc.weight")
    with pytest.raises(BatchError, match=message) as raised:
        trainer.step(inputs, labels, 0.1)
    assert "\n" not in str(raised.value)
    np.testing.assert_array_equal(trainer.tensor("fc.weight"), before)


def test_wider_integers_and_the_ignored_label_are_taken(trainer):
    loss = trainer.step(X, np.array([0, -100, 2, 1], np.int64), 0.0)
    losses = fake.Reference().losses(X, np.array([0, 9, 2, 1]))
    assert loss == pytest.approx(losses[[0, 2, 3]].mean(), rel=1e-5)


def test_the_runtime_checks_labels_itself(trainer):
    trainer._session.view(trainer.description.tensor("labels"))[:] = [0, 1, 2, 3]
    with pytest.raises(BatchError, match=r"labels\[3\] \(flat\) is 3; valid are 0 to 2"):
        trainer._session.train_step(0.1)


def test_a_failing_kernel_is_reported_and_the_next_step_works(trainer):
    with pytest.raises(PockError, match="AssertionError: the rate is minus seven"):
        trainer.step(X, LABELS, -7.0)
    with pytest.raises(PockError, match="asks for 1048576 bytes of workspace; 64 of 64 are left"):
        trainer.step(X, LABELS, -8.0)
    with pytest.raises(PockError, match="a kernel of train_step failed with code -6"):
        trainer.step(X, LABELS, -6.0)
    assert trainer.steps_done == 0
    assert trainer.step(X, LABELS, 0.1) > 0


def test_a_missing_entry_point_is_named(tmp_path):
    made = fake.description()
    folder = fake.write(tmp_path / "a", made=replace(made, entries=made.entries[:1])).directory
    with Trainer(folder) as trainer:
        with pytest.raises(PockError, match="compiled without evaluate"):
            trainer.evaluate(X, LABELS)
        with pytest.raises(PockError, match="compiled without predict"):
            trainer.predict(X)
        with pytest.raises(PockError, match="compiled without accumulate"):
            trainer._session.accumulate()


def test_tensors_come_in_the_layout_of_the_model(trainer):
    assert trainer.tensor("fc.weight").shape == (1, fake.FEATURES)
    assert trainer.tensor("fc.weight", original_layout=False).shape == (fake.FEATURES, 1)
    np.testing.assert_array_equal(trainer.tensor("scale"), fake.values()["scale"])
    with pytest.raises(UnknownNameError, match="no tensor 'fc'"):
        trainer.tensor("fc")


def test_export_holds_the_models_own_names_and_layouts(trainer, tmp_path):
    trainer.step(X, LABELS, 0.1)
    trainer.export(tmp_path / "model.safetensors")
    exported = load_file(tmp_path / "model.safetensors")
    assert {name: value.shape for name, value in exported.items()} == {
        "fc.weight": (1, 6),
        "fc.bias": (1,),
        "scale": (6,),
    }
    for name, value in exported.items():
        np.testing.assert_array_equal(value, trainer.tensor(name))


def test_a_closed_trainer_says_so(artifact):
    trainer = Trainer(artifact.directory)
    trainer.close()
    trainer.close()
    with pytest.raises(PockError, match="the trainer is closed"):
        trainer.step(X, LABELS, 0.1)


def test_training_imports_neither_tvm_nor_a_front_end(artifact):
    code = (
        "import sys, fake, pock_tvm\n"
        "with pock_tvm.Trainer(sys.argv[1]) as t: t.step(*fake.samples(4), 0.1)\n"
        "pock_tvm.load_artifact(sys.argv[1])\n"
        "print(sorted({'tvm', 'tvm_ffi', 'torch', 'onnx', 'ziglang'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(artifact.directory)]
    done = subprocess.run(command, cwd=fake.SOURCE.parent, capture_output=True, check=True)
    assert done.stdout.decode().strip() == "[]"


def test_the_package_itself_imports_nothing():
    code = "import sys, pock_tvm; print('numpy' in sys.modules, 'tvm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.split() == [b"False", b"False"]
