"""Sphinx: the pages are Markdown, the reference comes from the docstrings, the theme is furo."""

from importlib.metadata import version as installed

project = "topkin"
author = "the topkin maintainers"
version = release = installed("topkin")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"topkin {release}"
myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]
highlight_language = "none"
