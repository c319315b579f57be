"""What the peers with an environment of their own need, as ``pip install`` takes it."""

REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "jax": ("jax==0.10.2", "numpy==2.4.6"),
    "tensorflow": ("tensorflow-cpu==2.21.0",),
}
