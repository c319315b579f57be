"""libFuzzer over the readers of files; what it has found worth keeping lies in ``corpus/``."""

import os
import re
import shutil

import fake
import pytest
from building import HERE, READERS, build_driver, call

from pock_tvm import Trainer
from pock_tvm.artifact.dataset_file import write_dataset

pytestmark = pytest.mark.skipif(not shutil.which("clang"), reason="needs clang, for libFuzzer")
SCHEDULES = ("constant", "cosine:warmup=3,end=0.1", "step:every=10,by=0.5", "one-cycle:rise=0.3")
NAMES = ("weights", "checkpoint", "data", "schedule")


@pytest.fixture(scope="module")
def fuzzer(artifact, tmp_path_factory):
    output = tmp_path_factory.mktemp("fuzzer") / "fuzz_readers"
    flags = ("-g", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all")
    return build_driver(artifact, "fuzz_readers.c", output, *flags, names=READERS, compiler="clang")


def write_seeds(artifact, name, folder):
    """Good files to start from; the corpus alone would go stale with the formats."""
    folder.mkdir()
    if name == "weights":
        shutil.copyfile(artifact.weights, folder / "good")
    elif name == "checkpoint":
        with Trainer(artifact.directory, threads=1) as trainer:
            trainer.save_checkpoint(folder / "good")
    elif name == "data":
        write_dataset(folder / "good", artifact.description, *fake.samples(3))
    else:
        for i, text in enumerate(SCHEDULES):
            (folder / f"good{i}").write_text(text)


def fuzz(fuzzer, artifact, name, tmp_path, runs):
    write_seeds(artifact, name, tmp_path / "seeds")
    (tmp_path / "found").mkdir()
    kept = HERE / "corpus" / name
    # Linux hands the peak of resident memory on through exec, so libFuzzer would read that of
    # these tests as its own: what is limited is a single allocation.
    memory = ("-rss_limit_mb=0", "-malloc_limit_mb=256")
    limits = (f"-runs={runs}", "-seed=1", "-max_len=4500", f"-artifact_prefix={tmp_path}/", *memory)
    folders = (tmp_path / "found", tmp_path / "seeds", kept)
    done = call(
        fuzzer, *limits, "-print_final_stats=1", *folders, env={**os.environ, "READER": name}
    )
    assert done.returncode == 0, done.stderr[-4000:]
    executed = int(re.search(r"number_of_executed_units: (\d+)", done.stderr)[1])
    assert executed >= runs
    return done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_a_short_run_finds_nothing(fuzzer, artifact, name, tmp_path):
    fuzz(fuzzer, artifact, name, tmp_path, 3000)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_run_of_half_a_minute_finds_nothing(fuzzer, artifact, name, tmp_path):
    fuzz(fuzzer, artifact, name, tmp_path, 100_000)


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_a_million_executions_find_nothing(fuzzer, artifact, name, tmp_path):
    fuzz(fuzzer, artifact, name, tmp_path, 1_000_000)


def test_the_good_files_are_taken(reader_driver, artifact, tmp_path):
    """The check of the check: a fuzzer that starts from refused files sees nothing."""
    for name in NAMES:
        write_seeds(artifact, name, tmp_path / name)
        for path in (tmp_path / name).iterdir():
            assert call(reader_driver, name, path).stdout.startswith("0 "), path
