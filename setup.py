"""Packages of the checkout under one import name; metadata and tool settings are in pyproject.toml.

Top-level packages called ``models`` or ``tests`` would be overwritten in site-packages by any other
wheel with the same folder, so every folder here is installed below ``topkin``.
"""

from setuptools import find_packages, setup

FOLDERS = {
    "topkin": "topkin",
    "topkin.models": "models",
    "topkin.transforms": "transforms",
    "topkin.pipelines": "pipelines",
}

setup(
    # A set: links in topkin/ show the other folders a second time.
    packages=sorted({*FOLDERS, *(f"{name}.{p}" for name, folder in FOLDERS.items() for p in find_packages(folder))}),
    package_dir=FOLDERS,
    package_data={"topkin": ["py.typed"], "topkin.report": ["*.j2", "*.js"], "topkin.synthetic": ["shop.toml.j2"]},
)
