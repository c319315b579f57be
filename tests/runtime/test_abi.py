"""The C API from a C program: wrong use, two sessions at once, the log, the places of threads."""

import os
import platform
import shutil

import fake
import pytest
from building import SANITIZERS, build_driver, call

pytestmark = [
    pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc"),
    pytest.mark.skipif(platform.system() != "Linux", reason="uses Linux' affinity calls"),
]


@pytest.fixture(scope="module", params=SANITIZERS)
def driver(request, artifact, tmp_path_factory):
    output = tmp_path_factory.mktemp("driver") / "abi_driver"
    return build_driver(artifact, "abi_driver.c", output, *SANITIZERS[request.param])


def run(driver, *words):
    done = call(driver, *words)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("ThreadSanitizer cannot run under this kernel's address layout")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_wrong_use_gets_a_code_and_a_message(driver, artifact):
    lines = run(driver, "bad", artifact.weights)
    assert lines[:28] == [
        "no session: 7 there is no session: it is NULL",
        "no setup: 7 there is no setup: it is NULL",
        "session askew: 7 the session is not aligned to POCK_ALIGNMENT bytes",
        "small session: 7 the session is too small: it needs as many bytes as "
        "pock_session_bytes() returns",
        "old header: 7 the caller was compiled with another version of pock.h: use the one in "
        "the artifact's folder runtime/",
        "small arena: 7 the arena region has 604 bytes and needs 704: 100 more",
        "small state: 7 the state region has 0 bytes and needs 256: 256 more",
        "arena askew: 7 the arena region is not aligned to 64 bytes",
        "no state: 7 the state region is missing: it is NULL",
        "overlap: 7 the regions state and arena overlap",
        "no threads: 1 0 threads asked for; 1 to 64 work",
        "many threads: 1 65 threads asked for; 1 to 64 work",
        "no file: 5 cannot read /nowhere/weights: No such file or directory",
        "no name: 1 the weights file has no name: it is NULL",
        "small frozen: 7 the frozen region has 63 bytes and needs 64: 1 more",
        "no tensor: 1 the artifact has no tensor nothing",
        "no tensor name: 1 the artifact has no tensor (null)",
        "wrong size: 1 fc.bias has 4 bytes, not 8",
        "nowhere to: 1 fc.bias cannot be copied to or from NULL",
        "frozen: 1 scale is frozen and cannot be written",
        "no such number: 1 there is no tensor 11; the artifact has 11",
        "no checkpoint name: 1 the checkpoint has no name: it is NULL",
        "no step's session: 1 there is no session: it is NULL",
        "threads: 1 3 threads asked for; the session was started with 2",
        "kernel: 3 a kernel asks for 1048576 bytes of workspace; 64 of 64 are left",
        "good step: 0 ",
        "scale 24 2 0",
        "fc.weight 24 2 1",
    ]


def test_weights_may_lie_in_memory(driver, artifact):
    size = artifact.weights.stat().st_size
    assert run(driver, "memory", artifact.weights) == [
        "none: 7 the weights are missing: they are NULL",
        f"short: 7 the weights have {size - 1} bytes, not {size}: truncated, or of another "
        "artifact",
        "damaged: 7 the weights do not have the SHA-256 of this artifact's: damaged, or of another "
        "artifact",
        "trusted: 0 ",
        "askew: 7 the frozen region is not aligned to 64 bytes",
        "whole: 0 ",
    ]


def test_two_threads_train_two_sessions(driver, artifact):
    assert run(driver, "sessions", artifact.weights) == ["0 0"]  # as each alone; not alike


def test_the_log_hears_of_what_happens(driver, artifact, tmp_path):
    name = fake.description().model
    saved = tmp_path / "saved"
    assert run(driver, "log", artifact.weights, tmp_path) == [
        f"3 {name} for host: 1 threads, weights from {artifact.weights}",
        f"3 saved step 0 as {saved}",
        f"3 goes on from step 0 of {saved}",
        "1 cannot read /nowhere/saved: No such file or directory",
    ]


def test_affinity_is_obeyed_and_given_back(driver, artifact):
    cores = len(os.sched_getaffinity(0))
    auto, none, each = run(driver, "pinned", artifact.weights)
    assert auto.startswith(f"0: {cores} {cores} ")  # its workers may stay on fast cores
    assert none == f"1: {cores} {cores} {cores} {cores}"
    assert each == f"2: {cores} 1 1 {cores}"


def made_up_cores(root, name, values):
    for core, value in enumerate(values):
        path = root / f"devices/system/cpu/cpu{core}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value)


CAPACITY, FREQUENCY = "cpu_capacity", "cpufreq/cpuinfo_max_freq"


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        (CAPACITY, "325 325 325 325 828 828 828 1024", "fast 4: 7 4 5 6 0 1 2 3"),  # 4 + 3 + 1
        (CAPACITY, "1024 512 400 1024", "fast 3: 0 3 1 2"),
        (FREQUENCY, "1500000 1500000 1500000 1500000", "fast 4: 0 1 2 3"),  # Raspberry Pi 4
        (FREQUENCY, "600000 2000000", "fast 1: 1 0"),
        (CAPACITY, "1024 512 no", "fast 3: 0 1 2"),  # one core tells nothing: all count alike
        (CAPACITY, "0 0 0", "fast 3: 0 1 2"),
        (CAPACITY, "99999999999999999999999 1 7", "fast 1: 0 2 1"),
    ],
)
def test_fast_cores_come_first(driver, tmp_path, name, values, expected):
    words = values.split()
    made_up_cores(tmp_path, name, [f"{word}\n" for word in words])
    assert run(driver, "cores", tmp_path, len(words))[0] == expected


def test_capacity_counts_before_frequency(driver, tmp_path):
    made_up_cores(tmp_path, CAPACITY, ["500", "1000"])
    made_up_cores(tmp_path, FREQUENCY, ["3000000", "1000000"])
    assert run(driver, "cores", tmp_path, 2)[0] == "fast 2: 1 0"


def test_an_unknown_machine_ranks_its_cores_by_number(driver, tmp_path):
    assert run(driver, "cores", tmp_path / "nothing", 3)[0] == "fast 3: 0 1 2"


@pytest.mark.skipif({0, 1} - os.sched_getaffinity(0) != set(), reason="needs cores 0 and 1")
def test_the_pool_stays_on_the_fast_cores(driver, tmp_path):
    made_up_cores(tmp_path, CAPACITY, ["250", "250", *["1024"] * 6])
    allowed = sum(1 << core for core in os.sched_getaffinity(0) if 2 <= core < 8)
    words = run(driver, "cores", tmp_path, 8)[1].split()
    if allowed.bit_count() >= 2:
        assert words == ["placed", "0", "1", f"{allowed:x}"]
    else:  # this machine has fewer fast cores than the session has threads
        assert words == ["placed", "0", "0", "0"]
