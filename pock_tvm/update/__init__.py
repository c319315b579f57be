"""Update schemes: which tensors of a model learn, and how much of them."""

from pock_tvm.update.channels import ChannelSlice
from pock_tvm.update.parameters import Parameter, head_names, learnable_names
from pock_tvm.update.presets import parse_update
from pock_tvm.update.resolve import Adaptation, Update, lora_names, resolve
from pock_tvm.update.scheme import LoRA, Rule, UpdateScheme
from pock_tvm.update.toml_format import load_scheme

__all__ = [
    "Adaptation",
    "ChannelSlice",
    "LoRA",
    "Parameter",
    "Rule",
    "Update",
    "UpdateScheme",
    "head_names",
    "learnable_names",
    "load_scheme",
    "lora_names",
    "parse_update",
    "resolve",
]
