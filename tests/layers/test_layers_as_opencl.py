"""Every kernel of the tables of layers, forward and backward, as OpenCL source that compiles."""

import importlib
import shutil
import subprocess

import pytest
import torch
from layer_tables import _Table
from tvm import relax, tirx

from pock_tvm.frontend.torch_export import import_program
from pock_tvm.relay_passes import pipeline
from pock_tvm.relay_passes.derive_backward import DeriveBackward
from pock_tvm.relay_passes.fold_empty_tensors import FoldEmptyTensors
from pock_tvm.relay_passes.operators import LOWERINGS
from pock_tvm.relay_passes.write_device_source import write_device_kernel
from pock_tvm.schedules import schedule_launches
from pock_tvm.targets import get_target

pytestmark = pytest.mark.slow
TABLES = ("elementwise", "activation", "reduction", "gather", "scatter", "resize", "pooling")


def kernels_of(table):
    """Return the kernels of a table's loss and of its gradients, in float32, before fusion."""
    model = import_program(torch.export.export(table.eval().float(), ()), "layers", batch=1)
    known = {name: model.parameters[name] for name in model.buffers}
    mod = pipeline.canonicalize("frozen", known)(model.mod)
    trainable = [name for name in model.parameters if name not in model.buffers]
    mod = FoldEmptyTensors()(DeriveBackward(trainable)(mod))
    mod = relax.transform.LegalizeOps(LOWERINGS)(mod)
    return [func for func in mod.functions.values() if isinstance(func, tirx.PrimFunc)]


@pytest.mark.filterwarnings("ignore")  # of the tables' own modules
@pytest.mark.parametrize("name", TABLES)
def test_the_source_compiles(name, tmp_path):
    if not shutil.which("clang"):
        pytest.skip("needs clang, which reads OpenCL C")
    spec, texts = get_target("opencl"), []
    layers = importlib.import_module(f"test_{name}_layers").LAYERS
    for number, func in enumerate(kernels_of(_Table(layers))):
        launches = schedule_launches(func, spec)
        made = write_device_kernel(
            f"k{number}", func, launches, spec.device.build(), in_place=False
        )
        texts += [launch.source for launch in made.launches]
    (tmp_path / "kernels.cl").write_text("".join(texts))
    done = subprocess.run(
        [
            *("clang", "-x", "cl", "-cl-std=CL1.2", "-Xclang", "-finclude-default-header"),
            *("-fsyntax-only", tmp_path / "kernels.cl"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(texts) > 20
