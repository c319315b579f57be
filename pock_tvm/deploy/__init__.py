"""Bring an artifact to a device, prove it there, train there. Imports no tvm, torch or onnx."""

from pock_tvm.deploy.copy_artifact import Copied, deploy
from pock_tvm.deploy.place import Place, parse_place
from pock_tvm.deploy.train_remotely import RemoteRun, train_remotely

__all__ = ["Copied", "Place", "RemoteRun", "deploy", "parse_place", "train_remotely"]
