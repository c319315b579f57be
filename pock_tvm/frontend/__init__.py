"""Importers: from the formats that people train in to one Relax function with named tensors."""

from pock_tvm.frontend.model import ImportedModel, InputSpec
from pock_tvm.frontend.reference import load_model

__all__ = ["ImportedModel", "InputSpec", "load_model"]
