"""The documentation: `sphinx-build -W -b html docs docs/_build`, offline, with warnings as errors."""

import os
import re
from importlib.metadata import version as version_of
from typing import Any

from sphinx.application import Sphinx

# Notebooks keep to the CPU and write nothing but what they ask for.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

project = "zero-jax"
author = "The zero-jax authors"
project_copyright = "The zero-jax authors, Apache-2.0"
version = release = version_of("zero-jax")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
suppress_warnings = ["myst.header"]  # pages that include parts of other files start below a first-level heading

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_execution_show_tb = True
nb_merge_streams = True

# Docstrings write code in single backquotes and describe attributes in the text.
default_role = "code"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
highlight_language = "none"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_class_signature = "mixed"

html_theme = "furo"
html_title = f"zero-jax {version}"
html_static_path = ["_static"]
html_css_files = ["zero-jax.css"]
html_theme_options = {"navigation_with_keys": True}
html_copy_source = False


_SHARED = re.compile(r"(:(?:ivar|param)) (\w+(?:, \w+)+): (.*)")


def _split_shared_fields(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Fields that share a description (`low, high: ...`) get an entry each: Sphinx would take the first for a type."""
    split: list[str] = []
    waiting: list[str] = []
    for line in lines:
        if waiting and (line.startswith(":") or not line.strip()):
            split += waiting
            waiting = []
        shared = _SHARED.fullmatch(line)
        if shared:
            kind, (first, *others), text = shared[1], shared[2].split(", "), shared[3]
            line = f"{kind} {first}: {text}"
            waiting = [f"{kind} {other}: see `{first}`." for other in others]
        split.append(line)
    lines[:] = split + waiting


def setup(app: Sphinx) -> None:
    """Runs behind napoleon, whose priority is 500."""
    app.connect("autodoc-process-docstring", _split_shared_fields, priority=600)
