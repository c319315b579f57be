"""Write a PyTorch module as an ONNX file, by either exporter, for training or for prediction."""

import warnings

EXPORTERS = ("torchscript", "dynamo")


def export(module, inputs, path, exporter, *, keep=True, dynamic=True, names=("x",)):
    """Export in eval mode.

    Args:
        keep: leave batch norms and the names of all weights, as fine-tuning wants them.
        dynamic: leave the batch open.
    """
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"input_names": list(names), "verbose": False}
        if exporter == "dynamo":
            shapes = tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs) if dynamic else None
            options.update(dynamo=True, optimize=not keep, external_data=False)
            torch.onnx.export(module.eval(), inputs, path, dynamic_shapes=shapes, **options)
        else:
            mode = torch.onnx.TrainingMode.PRESERVE if keep else torch.onnx.TrainingMode.EVAL
            axes = {name: {0: "batch"} for name in names} if dynamic else None
            options.update(dynamo=False, do_constant_folding=not keep, training=mode)
            torch.onnx.export(module.eval(), inputs, path, dynamic_axes=axes, **options)
    return path
