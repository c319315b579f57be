"""Operators that read and write by index tensors, that sort, and that run along an axis."""

import torch
from rule_case import Case, M, ints
from tvm import relax
from tvm.relax import op

PLACES = [[0, 2, 2, 1], [1, 0, 2, 2]]
T = torch.tensor
CUBE = ((2, 3, 4),)

SCATTER = [
    Case(
        "gather_elements",
        lambda x: op.gather_elements(x, ints(PLACES), 0),
        M,
        torch=lambda x: x.gather(0, T(PLACES)),
    ),
    Case(
        "gather_elements-last",
        lambda x: op.gather_elements(x, ints([[-1], [0], [3]]), -1),
        M,
        torch=lambda x: x.gather(1, T([[3], [0], [3]])),
    ),
    Case(
        "gather_nd",
        lambda x: op.gather_nd(x, ints([[0, 1], [2, 3], [2, 3]])),
        M,
        torch=lambda x: x[T([0, 2, 2]), T([1, 3, 3])],
    ),
    Case(
        "gather_nd-rows",
        lambda x: op.gather_nd(x, ints([[2], [-1]])),
        M,
        torch=lambda x: x[T([2, 2])],
    ),
    Case(
        "gather_nd-batch",
        lambda x: op.gather_nd(x, ints([[1], [2]]), 1),
        CUBE,
        torch=lambda x: x[T([0, 1]), T([1, 2])],
    ),
    Case(
        "index_tensor",
        lambda x: op.index_tensor(x, [ints([[0], [1]]), ints([2, 2, 0])]),
        CUBE,
        torch=lambda x: x[T([[0], [1]]), T([2, 2, 0])],
    ),
    Case(
        "scatter_elements",
        lambda x, u: op.scatter_elements(x, ints([[0, 2, 1, 1]]), u, 0),
        (*M, (1, 4)),
        torch=lambda x, u: x.scatter(0, T([[0, 2, 1, 1]]), u),
    ),
    Case(
        "scatter_elements-add",
        lambda x, u: op.scatter_elements(x, ints(PLACES), u, 0, "add"),
        (*M, (2, 4)),
        torch=lambda x, u: x.scatter_add(0, T(PLACES), u),
    ),
    Case(
        "scatter_nd",
        lambda x, u: op.scatter_nd(x, ints([[2], [0]]), u),
        (*M, (2, 4)),
        torch=lambda x, u: x.index_put((T([2, 0]),), u),
    ),
    Case(
        "scatter_nd-add",
        lambda x, u: op.scatter_nd(x, ints([[2, 1], [2, 1]]), u, "add"),
        (*M, (2,)),
        torch=lambda x, u: x.index_put((T([2, 2]), T([1, 1])), u, accumulate=True),
    ),
    Case(
        "index_put",
        lambda x, v: op.index_put(x, relax.Tuple([ints([2, 0]), ints([1, 3])]), v),
        (*M, (2,)),
        torch=lambda x, v: x.index_put((T([2, 0]), T([1, 3])), v),
    ),
    Case(
        "index_put-add",
        lambda x, v: op.index_put(x, relax.Tuple([ints([2, 2]), ints([1, 1])]), v, True),
        (*M, (2,)),
        torch=lambda x, v: x.index_put((T([2, 2]), T([1, 1])), v, accumulate=True),
    ),
    Case(
        "slice_scatter",
        lambda x, s: op.slice_scatter(x, s, 1, 4, 2, 1),
        (*M, (3, 2)),
        torch=lambda x, s: x.slice_scatter(s, 1, 1, 4, 2),
    ),
    Case("sort", lambda x: op.sort(x, 1), M, torch=lambda x: x.sort(1).values),
    Case(
        "sort-descending",
        lambda x: op.sort(x, 0, True),
        M,
        torch=lambda x: x.sort(0, descending=True).values,
    ),
    Case("topk-values", lambda x: op.topk(x, 2, -1, "values"), M, torch=lambda x: x.topk(2).values),
    Case(
        "topk-smallest",
        lambda x: op.topk(x, 2, 0, "values", False),
        M,
        torch=lambda x: x.topk(2, 0, largest=False).values,
    ),
    Case("cumprod", lambda x: op.cumprod(x, -1), M, torch=lambda x: x.cumprod(-1)),
    Case("cumprod-middle", lambda x: op.cumprod(x, 1), CUBE, torch=lambda x: x.cumprod(1)),
    Case("cumprod-exclusive", lambda x: op.cumprod(x, 0, exclusive=True), M),
    Case("cumprod-flat", op.cumprod, M, torch=lambda x: x.flatten().cumprod(0)),
    Case("prod", op.prod, M, torch=torch.prod),
    Case(
        "prod-axis", lambda x: op.prod(x, [1], True), CUBE, torch=lambda x: x.prod(1, keepdim=True)
    ),
    Case(
        "einsum-matmul",
        lambda x, y: op.einsum([x, y], "ij,jk->ik"),
        ((3, 4), (4, 2)),
        torch=lambda x, y: x @ y,
    ),
    Case(
        "einsum-batch",
        lambda x, y: op.einsum([x, y], "bij,bkj->bki"),
        ((2, 3, 4), (2, 5, 4)),
        torch=lambda x, y: torch.einsum("bij,bkj->bki", x, y),
    ),
    Case("einsum-sum", lambda x: op.einsum([x], "ij->j"), M, torch=lambda x: x.sum(0)),
    Case(
        "einsum-diagonal",
        lambda x: op.einsum([x], "ii->i"),
        ((4, 4),),
        torch=lambda x: x.diagonal(),
    ),
    Case("outer", op.outer, ((3,), (4,)), torch=torch.outer),
    Case("tril", lambda x: op.tril(x, 1), M, torch=lambda x: x.tril(1)),
    Case("triu", lambda x: op.triu(x, -1), CUBE, torch=lambda x: x.triu(-1)),
    Case("asin", op.asin, M, low=-0.9, high=0.9, torch=torch.asin),
    Case("acos", op.acos, M, low=-0.9, high=0.9, torch=torch.acos),
    Case("asinh", op.asinh, M, torch=torch.asinh),
    Case("acosh", op.acosh, M, low=1.2, torch=torch.acosh),
    Case("atanh", op.atanh, M, low=-0.9, high=0.9, torch=torch.atanh),
    Case("atan2", op.atan2, ((3, 4), (4,)), low=0.2, torch=torch.atan2),
    Case("log_add_exp", op.log_add_exp, ((3, 4), (3, 1)), torch=torch.logaddexp),
    Case("mod", op.mod, ((3, 4), (4,)), low=0.5, torch=torch.fmod),
    Case("floor_mod", op.floor_mod, ((3, 4), (4,)), low=0.5, torch=torch.remainder),
]
