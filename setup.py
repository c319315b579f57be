"""Packaging: the layer folders at the repository root install inside ``pock_tvm``.

``pock_tvm/<layer>`` are relative links to the real folders, so that a bare checkout imports too;
the links are left out of the package search, and ``package_dir`` names the folders themselves.
"""

from setuptools import find_packages, setup

LAYERS = ("relay_passes", "schedules", "targets")
LINKS = [f"pock_tvm.{layer}" for layer in LAYERS]

packages = find_packages(include=["pock_tvm*"], exclude=[p for n in LINKS for p in (n, f"{n}.*")])
for layer in LAYERS:
    packages += [f"pock_tvm.{name}" for name in find_packages(include=[layer, f"{layer}.*"])]

setup(packages=packages, package_dir={f"pock_tvm.{layer}": layer for layer in LAYERS})
