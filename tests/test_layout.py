"""The repository keeps its shape: layers, one pass per file, a test for each."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("relay_passes", "schedules", "targets")
SOURCES = sorted(
    path
    for folder in ("pock_tvm", *LAYERS, "benchmarks", "examples", "tests")
    for path in (ROOT / folder).rglob("*.py")
    if not any(parent.is_symlink() for parent in path.parents)
)

OUTSIDE_THE_PIPELINE = {
    "ExpandTranscendentals": "works on scheduled kernels, in lower_kernels()",
    "CallDeviceFunctions": "works on scheduled launches, in lower_launches()",
    "KeepConstantBits": "works on scheduled launches, in lower_launches()",
    "PassDevicePointers": "works on scheduled launches, in its own lower_launches()",
    "PassRawPointers": "works on scheduled kernels, in its own lower_kernels()",
    "ShareLaneVariables": "works on scheduled kernels, in lower_kernels()",
    "SplitNestedFunctions": "works on scheduled kernels, in lower_kernels()",
}

WITHOUT_A_TEST_FILE = {
    "PassRawPointers": "every test that runs an entry point calls kernels by raw pointers",
}


def _passes():
    """Return {class name: its file} for every class that has a ``transform_module``."""
    found = {}
    for path in sorted((ROOT / "relay_passes").glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and any(
                isinstance(item, ast.FunctionDef) and item.name == "transform_module"
                for item in node.body
            ):
                found[node.name] = path
    return found


PASSES = _passes()


def test_passes_are_found():
    assert {"DeriveBackward", "AppendLoss"} <= set(PASSES)
    assert set(PASSES) >= set(OUTSIDE_THE_PIPELINE) | set(WITHOUT_A_TEST_FILE)


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_stands_in_its_file_and_in_the_pipeline(name):
    stem = PASSES[name].stem
    assert stem.replace("_", "") == name.lower()
    pipeline = ast.parse((ROOT / "relay_passes" / "pipeline.py").read_text())
    called = {
        node.func.id
        for node in ast.walk(pipeline)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert (name in called) != (name in OUTSIDE_THE_PIPELINE)


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_has_a_test(name):
    test = ROOT / "tests" / "relay_passes" / f"test_{PASSES[name].stem}.py"
    assert test.exists() != (name in WITHOUT_A_TEST_FILE)


@pytest.mark.parametrize("verb", [p.stem for p in (ROOT / "pock_tvm/cli").glob("*.py")])
def test_a_verb_has_a_test(verb):
    shared = {"__init__", "choose", "deltas", "memory", "options", "output", "places", "progress"}
    shared |= {"compile_reference", "samples"}
    assert (ROOT / "tests" / "cli" / f"test_{verb}.py").exists() != (verb in shared)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_refuses_its_bare_name(layer):
    done = subprocess.run(
        [sys.executable, "-c", f"import {layer}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode
    assert f"ImportError: import pock_tvm.{layer}, not {layer}" in done.stderr
    assert (ROOT / "pock_tvm" / layer).resolve() == ROOT / layer


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import pock_tvm, sys\n"
        "from pock_tvm import PockError, Trainer\n"
        "print(sorted({'torch', 'onnx', 'tvm', 'tvm_ffi', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_short_enough_to_read(path):
    assert len(path.read_text().splitlines()) <= 400
    assert path.stem not in ("utils", "helpers", "common")
