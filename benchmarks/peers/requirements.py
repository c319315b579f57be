"""What the peers with an environment of their own need, as ``pip install`` takes it."""

REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "jax": ("jax==0.10.2", "numpy==2.4.6"),
    "mnn": ("MNN==3.6.1", "numpy==1.26.4"),
    "onnxruntime": (
        "onnxruntime-training==1.19.2",
        "onnx==1.16.2",
        "numpy==1.26.4",
        "torch==2.13.0",
    ),
    "tensorflow": ("tensorflow-cpu==2.21.0",),
}
