"""Kernels of earlier compilations: found again, never mistaken, checked before they are linked."""

import importlib
import os
import stat
import threading
from dataclasses import replace

import pytest
import small_net
from tvm import te

import pock_tvm
from pock_tvm.artifact.artifact_cache import VARIABLE
from pock_tvm.compilation.kernel_cache import KernelCache
from pock_tvm.frontend import load_model
from pock_tvm.relay_passes.build_object import CompiledKernel
from pock_tvm.schedules.cpu.decision import Decision
from pock_tvm.targets import get_target

KERNEL = CompiledKernel(b"machine code", 640)
DECISION = Decision(8, 3, 1, 1, 64, True, False, "", False, False, 1)


def scaled(by, name="x"):
    x = te.placeholder((16,), name=name)
    return te.create_prim_func([x, te.compute((16,), lambda i: x[i] * by, name="y")])


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    return KernelCache.of_user(get_target("host"))


def files(cache):
    return [path for path in cache.folder.glob("*/*") if path.is_file()]


@pytest.fixture
def compiled_kernels(monkeypatch):
    """Record how many kernels each compilation compiles, and how many it knows."""
    home = importlib.import_module("pock_tvm.compilation.kernels")
    build, seen = home.build_objects, []

    def spy(steps, offsets, kernels, spec, tell, known):
        seen.append((len(kernels), None if known is None else len(known)))
        return build(steps, offsets, kernels, spec, tell, known=known)

    monkeypatch.setattr(home, "build_objects", spy)
    return seen


def test_a_second_compilation_compiles_no_kernel(cache, compiled_kernels, tmp_path):
    model = load_model("small_net:build", small_net.BATCH)
    first, second = (
        pock_tvm.compile(model, tmp_path / name, update="head").artifact for name in "ab"
    )
    (count, none), again = compiled_kernels
    assert count > 5
    assert none == 0
    assert again == (0, count)
    assert len(files(cache)) == count
    assert first.description.regions == second.description.regions
    objects = [(one.directory / "step.o").read_bytes() for one in (first, second)]
    assert objects[0] == objects[1]
    # Another optimizer shares what is not its own.
    pock_tvm.compile(model, tmp_path / "c", update="head", optimizer="adamw")
    new, found = compiled_kernels[2]
    assert new
    assert found
    pock_tvm.compile(model, tmp_path / "d", update="head", cache=False)
    assert compiled_kernels[3] == (count, None)


def test_a_damaged_kernel_is_compiled_again(cache, compiled_kernels, tmp_path):
    model = load_model("small_net:build", small_net.BATCH)
    pock_tvm.compile(model, tmp_path / "a", update="head")
    victim = files(cache)[0]
    whole = victim.read_bytes()
    for damaged in (b"", whole[:40], whole[:-1], whole[:50] + b"?" + whole[51:]):
        victim.write_bytes(damaged)
        pock_tvm.compile(model, tmp_path / "a", update="head")
        assert compiled_kernels[-1][0] == 1
        assert victim.read_bytes() == whole


def test_whatever_decides_the_code_is_in_the_key(cache):
    kernel = scaled(2.0)
    keys = [
        cache.key("a", kernel, in_place=False),
        cache.key("b", kernel, in_place=False),
        cache.key("a", kernel, in_place=True),
        cache.key("a", scaled(2.0000002), in_place=False),
        cache.key("a", kernel, in_place=False, decision=DECISION),
        cache.key("a", kernel, in_place=False, decision=replace(DECISION, rows=7)),
        KernelCache(cache.folder, get_target("raspberry-pi-4")).key("a", kernel, in_place=False),
    ]
    assert len(set(keys)) == len(keys)
    assert cache.key("a", scaled(2.0), in_place=False) == keys[0]
    assert cache.key("a", scaled(2.0, "lv7"), in_place=False) == keys[0]  # names make no code


def test_a_kernel_under_another_key_is_not_taken(cache):
    cache.keep("ab" * 32, KERNEL)
    (path,) = files(cache)
    assert cache.find("ab" * 32) == KERNEL
    path.rename(path.with_name("cd" * 31))
    assert cache.find("ab" + "cd" * 31) is None
    assert cache.find("ab" * 32) is None


def test_many_may_write_at_once(cache):
    keys = [f"{i:064x}" for i in range(4)] * 8
    threads = [threading.Thread(target=cache.keep, args=(key, KERNEL)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(cache.find(key) == KERNEL for key in keys)
    assert len(files(cache)) == 4  # and nothing partial is left


def test_what_was_read_longest_ago_makes_room(cache):
    keys = [f"{i:064x}" for i in range(3)]
    for age, key in enumerate(keys):
        cache.keep(key, KERNEL)
        os.utime(cache.folder / key[:2] / key[2:], (1e9 - age, 1e9 - age))
    assert cache.find(keys[2]) == KERNEL  # the oldest, but read just now
    size = files(cache)[0].stat().st_size
    cache.make_room(2 * size)
    assert [cache.find(key) is not None for key in keys] == [True, False, True]


def test_it_can_be_turned_off(monkeypatch):
    monkeypatch.setenv(VARIABLE, "off")
    assert KernelCache.of_user(get_target("host")) is None


def test_a_folder_that_others_may_write_is_not_used(cache):
    cache.folder.chmod(0o777)
    assert KernelCache.of_user(get_target("host")) is None
    cache.folder.chmod(stat.S_IRWXU)
    assert KernelCache.of_user(get_target("host")) is not None


def test_a_folder_that_cannot_be_made_is_no_reason_to_fail(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file" / "cache"))
    assert KernelCache.of_user(get_target("host")) is None
