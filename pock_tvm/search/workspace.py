"""The folder of a search: the data as all runs read it, the model, and compiled artifacts.

Everything in it can be made again from the model and the data; results stand in the database.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pock_tvm.artifact.fingerprint import tensors_sha256
from pock_tvm.artifact.load import Artifact, load_artifact
from pock_tvm.compile import compile
from pock_tvm.errors import ArtifactError
from pock_tvm.frontend.model import ImportedModel
from pock_tvm.relay_passes.fuse_attention import Attention
from pock_tvm.search.planning import Setting
from pock_tvm.search.runs import save_samples
from pock_tvm.search.samples import Samples, Split, arrays_of
from pock_tvm.search.stored_model import save_model
from pock_tvm.update import UpdateScheme

EVERYTHING = "everything"
"""The artifact that masked runs share."""

Tell = Callable[[str, int, int, str], None]


class Workspace:
    """Where the files of a search are."""

    def __init__(self, folder: Path, model: ImportedModel, data: Split) -> None:
        """Write data and model, unless an earlier run of the same search has."""
        self.folder = folder.absolute()
        self._model = model
        ready = self.folder / "ready"
        if not ready.is_dir():
            shutil.rmtree(self.folder, ignore_errors=True)  # half of an earlier one
            fresh = self.folder / "fresh"
            save_model(model, fresh / "model")
            learn = _joined(data.train, data.held_out)
            for name, part in (
                ("train", data.train),
                ("held_out", data.held_out),
                ("learn", learn),
                ("test", data.test),
            ):
                save_samples(part, fresh / f"{name}.npz")
            fresh.rename(ready)
        self._ready = ready

    def data(self, name: str) -> str:
        """Return the file of ``train``, ``held_out``, ``learn`` (both of these) or ``test``."""
        return str(self._ready / f"{name}.npz")

    def setting(
        self, target: str, optimizer: str, loss: str, attention: Attention = "full"
    ) -> Setting:
        """Return what all plans share."""
        model = str(self._ready / "model")
        return Setting(
            model=model, target=target, optimizer=optimizer, loss=loss, attention=attention
        )

    def forget_artifacts(self) -> None:
        """Let all artifacts be compiled again."""
        shutil.rmtree(self.folder / "artifacts", ignore_errors=True)

    def artifact(
        self, name: str, scheme: UpdateScheme | str, setting: Setting, *, gradients: bool = False
    ) -> Artifact:
        """Return an artifact, compiled now or by an earlier run of the same search."""
        folder = self.folder / "artifacts" / name
        try:
            return load_artifact(folder)
        except ArtifactError:
            shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        return compile(
            self._model,
            folder,
            target=setting.target,
            update=scheme,
            optimizer=setting.optimizer,
            loss=setting.loss,
            attention=setting.attention,
            winograd="off",  # a budget counts its bytes, and plans have none
            keep_gradients=gradients,
        ).artifact


def fingerprint(data: Split) -> str:
    """Hash all samples of a search."""
    tensors: dict[str, np.ndarray] = {}
    for name, part in (("train", data.train), ("held_out", data.held_out), ("test", data.test)):
        tensors[f"{name} labels"] = np.asarray(part.labels)
        for key, array in arrays_of(part).items():
            tensors[f"{name} {key}"] = np.asarray(array)
    return tensors_sha256(tensors)


def _joined(first: Samples, second: Samples) -> Samples:
    labels = np.concatenate([first.labels, second.labels])
    both = {
        name: np.concatenate([array, arrays_of(second)[name]])
        for name, array in arrays_of(first).items()
    }
    return Samples(both.get("", both) if set(both) == {""} else both, labels)
