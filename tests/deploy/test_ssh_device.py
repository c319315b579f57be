"""Deploy a Raspberry Pi artifact to a real sshd; qemu stands for the processor."""

import os
import shutil
import subprocess
from pathlib import Path

import fake
import pytest

from pock_tvm.artifact.load import file_sha256

pytestmark = pytest.mark.skipif(not shutil.which("qemu-aarch64"), reason="needs qemu-aarch64")
RUNNER = ("--runner", "qemu-aarch64", "--json")
ONLY_COPY = ("--no-self-test", *RUNNER)
COPIED = {"pock_train", "weights.safetensors", "manifest.json"}
NAMES = {*COPIED, "selftest.pockdata"}


@pytest.fixture
def deploy(pock, device, artifact):
    def run(path, *words, config=None, directory=artifact.directory):
        given = ("--ssh-config", config or device.config)
        return pock("deploy", directory, device.at(path), *given, *words)

    return run


def test_a_first_copy_brings_all_of_it_and_trains_there(deploy, device, artifact):
    there = device.folder / "new" / "net"
    found = deploy(there, *RUNNER)
    assert set(found["sent"]) == NAMES == {path.name for path in there.iterdir()}
    assert (
        found["sent_bytes"]
        == found["total_bytes"]
        == sum(path.stat().st_size for path in there.iterdir())
    )
    for name in ("pock_train", "weights.safetensors", "manifest.json"):
        assert file_sha256(there / name) == file_sha256(artifact.directory / name)
    assert os.access(there / "pock_train", os.X_OK)
    test = found["self_test"]
    assert test["expected_from"] == "qemu-aarch64"
    assert test["losses"] == test["expected"]
    assert test["losses"][0] > test["losses"][1] > 0
    assert test["step_ms"] > 0
    assert test["peak_bytes"] > 1 << 16


def test_an_unchanged_copy_sends_nothing(deploy, device):
    there = device.folder / "net"
    deploy(there, *RUNNER)
    times = {path.name: path.stat().st_mtime_ns for path in there.iterdir()}
    copies = device.copies()
    assert copies == len(NAMES)
    found = deploy(there, *RUNNER)
    assert (found["sent"], found["sent_bytes"]) == ([], 0)
    assert device.copies() == copies
    assert times == {path.name: path.stat().st_mtime_ns for path in there.iterdir()}
    assert found["self_test"]["losses"] == found["self_test"]["expected"]


def test_only_what_changed_is_sent(deploy, device):
    there = device.folder / "net"
    deploy(there, *ONLY_COPY)
    with (there / "weights.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")
    found = deploy(there, *ONLY_COPY)
    assert found["sent"] == ["weights.safetensors"]
    assert found["sent_bytes"] == (there / "weights.safetensors").stat().st_size


def test_an_interrupted_copy_goes_on(deploy, device, artifact):
    there = device.folder / "net"
    device.tears_the_next_copy_after(30_000)
    message = deploy(there, *ONLY_COPY)
    assert "the copy of pock_train stopped" in message
    assert "the same command goes on from there" in message
    assert [path.name for path in there.iterdir()] == ["pock_train.partial"]
    assert (there / "pock_train.partial").stat().st_size == 30_000
    found = deploy(there, *ONLY_COPY)
    assert found["resumed_bytes"] == 30_000
    assert found["sent_bytes"] == found["total_bytes"] - 30_000
    assert file_sha256(there / "pock_train") == file_sha256(artifact.executable)
    assert {path.name for path in there.iterdir()} == COPIED


def test_a_partial_file_of_something_else_is_not_gone_on_from(deploy, device, artifact):
    there = device.folder / "net"
    there.mkdir()
    (there / "pock_train.partial").write_bytes(b"something else" * 1000)
    found = deploy(there, *ONLY_COPY)
    assert found["resumed_bytes"] == 0
    assert file_sha256(there / "pock_train") == file_sha256(artifact.executable)


def test_a_device_of_another_architecture_is_refused_before_anything_is_written(deploy, device):
    device.says_it_is("riscv64")
    message = deploy(device.folder / "net", "--json")
    assert "is Linux on riscv64; the artifact was compiled for raspberry-pi-4" in message
    assert list(device.folder.iterdir()) == []
    assert device.copies() == 0


def test_a_device_that_only_claims_to_fit_is_found_out(deploy, device):
    """Without a runner, a machine of another kind cannot run the file."""
    device.says_it_is("aarch64")
    message = deploy(device.folder / "net", "--json")
    assert "Exec format error" in message or "not found" in message


def test_a_device_without_room_says_how_much_is_missing(deploy, device):
    small = device.folder / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("cannot mount a small file system here")
    try:
        message = deploy(small / "net", *ONLY_COPY)
        assert "bytes free and" in message
        assert "are needed" in message
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_not_ours_is_refused(deploy, device):
    locked = device.folder / "locked"
    locked.mkdir(mode=0o555)
    assert "cannot be written: permission denied" in deploy(locked / "net", *ONLY_COPY)


def test_a_folder_that_nobody_may_write_is_refused(deploy):
    message = deploy("/proc/self/net", *RUNNER)
    assert "/proc/self/net" in message
    assert any(why in message for why in ("permission denied", "cannot create", "bytes free"))


def test_a_stranger_is_not_let_in(deploy, device):
    config = device.config.with_name("stranger_config")
    message = deploy(device.folder / "net", *RUNNER, config=config)
    assert message.startswith("pock: cannot reach ssh://")
    assert "Permission denied (publickey)" in message


def test_a_device_that_is_off_is_named(pock, device, artifact):
    url = f"ssh://127.0.0.1:1{device.folder}/net"
    message = pock("deploy", artifact.directory, url, "--ssh-config", device.config, *RUNNER)
    assert message.startswith("pock: cannot reach ssh://127.0.0.1:1/")
    assert "refused" in message


def test_names_are_never_read_as_commands(deploy, device):
    name = 'it\'s $(touch hacked) `touch hacked`; touch hacked & "net"'
    found = deploy(device.folder / name.replace(" ", "%20"), *ONLY_COPY)
    assert found["sent_bytes"] == found["total_bytes"]
    assert [path.name for path in device.folder.iterdir()] == [name]
    assert not Path("hacked").exists()
    assert not (Path.home() / "hacked").exists()


def test_a_host_artifact_of_the_same_model_is_a_reference(deploy, device, tmp_path_factory):
    host = fake.write(tmp_path_factory.mktemp("host") / "net").directory
    found = deploy(device.folder / "net", "--reference", host, *RUNNER)["self_test"]
    assert found["expected_from"] == f"the artifact {host}"
    assert found["losses"] == pytest.approx(found["expected"], rel=1e-5)


def test_a_device_that_computes_something_else_is_found_out(
    deploy, device, tmp_path_factory, monkeypatch
):
    other = fake.values()
    other["fc.weight"] = other["fc.weight"] * 1.01
    monkeypatch.setattr(fake, "values", lambda: other)
    host = fake.write(tmp_path_factory.mktemp("other") / "net").directory
    message = deploy(device.folder / "net", "--reference", host, *RUNNER)
    assert "computes something else: losses (" in message


def test_the_self_test_can_be_left_out(deploy, device):
    found = deploy(device.folder / "net", *ONLY_COPY)
    assert found["self_test"] is None
    assert set(found["sent"]) == COPIED


def test_an_artifact_without_an_executable_is_refused(deploy, device, tmp_path_factory):
    library = fake.write(tmp_path_factory.mktemp("library") / "net")
    message = deploy(device.folder / "net", *RUNNER, directory=library.directory)
    assert "holds no pock_train" in message
