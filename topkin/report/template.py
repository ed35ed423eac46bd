"""The templates of pages, with the words that they use."""

import base64
import hashlib
from functools import cache
from importlib import resources

import jinja2

from topkin.report import wording

SCRIPT = "page.js"
"""The one script that a page runs; its policy has the hash of it, so that no other runs, whatever the data holds."""


@cache
def template(name: str) -> jinja2.Template:
    """A template of this package by its file's name; everything that comes from the data is escaped."""
    return _environment().get_template(name)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(lambda name: resources.files(__package__).joinpath(name).read_text("utf-8")),
    )
    environment.filters.update({n: getattr(wording, n) for n in ("count", "plural", "day", "signed", "score")})
    script = resources.files(__package__).joinpath(SCRIPT).read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals.update(page_script=script, page_script_hash=f"sha256-{digest}")
    return environment
