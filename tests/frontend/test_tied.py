import torch

from pock_tvm.frontend.tied import tied_names


def test_the_same_memory_read_the_same_way_is_one_tensor():
    table, empty = torch.arange(12.0).reshape(3, 4), torch.zeros(0)
    tensors = {
        "a": table,
        "b": table.clone(),
        "c": table.detach(),
        "transposed": table.T,
        "part": table[0],
        "d": table,
        "empty": empty,
        "empty too": empty,
    }
    assert tied_names(tensors, tensors) == {"c": "a", "d": "a"}
