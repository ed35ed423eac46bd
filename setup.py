"""Packages of the checkout under one import name; metadata and tool settings are in pyproject.toml.

Top-level packages called ``models`` or ``tests`` would be overwritten in site-packages by any other
wheel with the same folder, so every folder here is installed below ``topkin``.
"""

from setuptools import setup

FOLDERS = {
    "topkin": "topkin",
    "topkin.models": "models",
    "topkin.transforms": "transforms",
    "topkin.pipelines": "pipelines",
}

setup(
    packages=list(FOLDERS),
    package_dir=FOLDERS,
    package_data={"topkin": ["py.typed", "report.html.j2"]},
)
