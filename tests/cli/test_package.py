import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "artifact"))
import fake


@pytest.fixture(scope="module")
def phone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phone") / "net"
    return fake.write(folder, fake.machine_of("android-arm64"), library=True).directory


def test_a_folder_for_android(pock, phone, tmp_path):
    out = tmp_path / "out"
    found = pock("package", phone, "--for", "android", "-o", out, "--json")
    written = {
        p.relative_to(out).as_posix(): p.stat().st_size for p in out.rglob("*") if p.is_file()
    }
    assert (found["form"], found["files"]) == ("android", written)
    names = ("libpock_model.so", "libpock_jni.so")
    assert {f"jni/arm64-v8a/{name}" for name in names} <= set(written)
    assets = out / "assets" / "pock_model"
    assert {path.name for path in assets.iterdir()} == {"manifest.json", "weights.safetensors"}
    for path in assets.iterdir():
        assert path.read_bytes() == (phone / path.name).read_bytes()


def test_rows(pock, phone, tmp_path):
    text = pock("package", phone, "--for", "android", "-o", tmp_path / "out")
    assert "java/org/pock/PockModel.java" in text


def test_another_system_is_refused(refused, phone, small_artifact, tmp_path):
    message = refused("package", phone, "--for", "apple", "-o", tmp_path / "out")
    assert "was compiled for 'android-arm64', not for apple" in message
    assert "--target apple-m1" in message
    given = ("package", small_artifact.directory, "--for", "android", "-o", tmp_path / "out")
    assert "--target android-arm64" in refused(*given)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_left_alone(refused, phone, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    given = ("package", phone, "--for", "android", "-o")
    assert "exists; remove it, or choose another place" in refused(*given, tmp_path / "out")
    assert "does not exist" in refused(*given, tmp_path / "no" / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine"]


def test_an_artifact_without_a_library_is_refused(refused, tmp_path):
    bare = fake.write(tmp_path / "net", fake.machine_of("android-arm64")).directory
    message = refused("package", bare, "--for", "android", "-o", tmp_path / "out")
    assert "holds no libpock_model.so; compile it without --no-library" in message
    assert not (tmp_path / "out").exists()


def test_a_damaged_artifact_is_refused(refused, artifact_copy, tmp_path):
    (artifact_copy / "step.o").write_bytes(b"")
    given = ("package", artifact_copy, "--for", "android", "-o", tmp_path / "out")
    assert "step.o" in refused(*given)


def test_the_form_must_be_named(misused, phone, tmp_path):
    assert "--for" in misused("package", phone, "-o", tmp_path / "out")
