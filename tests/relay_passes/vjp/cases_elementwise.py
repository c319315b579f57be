"""Elementwise operators."""

import torch
import torch.nn.functional as F
from rule_case import Case, M, mask, number
from tvm.relax import op

UNARY = [
    Case("exp", op.exp, M, torch=torch.exp),
    Case("log", op.log, M, low=0.5, torch=torch.log),
    Case("sqrt", op.sqrt, M, low=0.5, torch=torch.sqrt),
    Case("rsqrt", op.rsqrt, M, low=0.5, torch=torch.rsqrt),
    Case("negative", op.negative, M, torch=torch.neg),
    Case("abs", op.abs, M, torch=torch.abs),
    Case("square", op.square, M, torch=torch.square),
    Case("sin", op.sin, M, torch=torch.sin),
    Case("cos", op.cos, M, torch=torch.cos),
    Case("tan", op.tan, M, low=-1, high=1, torch=torch.tan),
    Case("sinh", op.sinh, M, torch=torch.sinh),
    Case("cosh", op.cosh, M, torch=torch.cosh),
    Case("atan", op.atan, M, torch=torch.atan),
    Case("tanh", op.tanh, M, torch=torch.tanh),
    Case("sigmoid", op.sigmoid, M, torch=torch.sigmoid),
    Case("erf", op.erf, M, torch=torch.erf),
    Case("astype", lambda x: op.astype(x, "float64"), M),
    Case("clip", lambda x: op.clip(x, -0.5, 1), M, torch=lambda x: F.hardtanh(x, -0.5, 1)),
    Case("relu", op.nn.relu, M, torch=F.relu),
    Case("leakyrelu", lambda x: op.nn.leakyrelu(x, 0.1), M, torch=lambda x: F.leaky_relu(x, 0.1)),
    Case("silu", op.nn.silu, M, torch=F.silu),
    Case("gelu", op.nn.gelu, M, torch=F.gelu),
    Case("gelu_tanh", op.nn.gelu_tanh, M, torch=lambda x: F.gelu(x, approximate="tanh")),
]

BINARY = [
    Case("add", op.add, ((2, 3, 4), (3, 1)), torch=torch.add),
    Case("add-scalar", op.add, ((), (3, 4)), torch=torch.add),
    Case("subtract", op.subtract, ((3, 4), (2, 1, 4)), torch=torch.sub),
    Case("multiply", op.multiply, ((1, 4), (3, 1)), torch=torch.mul),
    Case("divide", op.divide, ((3, 4), (4,)), low=0.5, torch=torch.div),
    Case("power", op.power, ((3, 4), (4,)), low=0.5, torch=torch.pow),
    Case("power-square", lambda x: op.power(x, number(2)), M, torch=torch.square),
    Case("power-cube", lambda x: op.power(x, number(3)), M, torch=lambda x: x**3),
    Case("maximum", op.maximum, ((3, 4), (4,)), torch=torch.maximum),
    Case("minimum", op.minimum, ((3, 4), (3, 1)), torch=torch.minimum),
    Case(
        "where",
        lambda x, y: op.where(mask([[1], [0], [1]]), x, y),
        ((3, 4), (1, 4)),
        torch=lambda x, y: torch.where(torch.tensor([[True], [False], [True]]), x, y),
    ),
]

ELEMENTWISE = UNARY + BINARY
