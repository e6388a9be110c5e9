"""The site that `make docs` builds: these pages, the notebooks of examples/, and the reference from the docstrings.

The source folder is the checkout, so that a link means the same here and where the files are read as they are.
"""

import os
import re
from collections.abc import Iterator
from typing import Any

import gptgan_jax

project = "gptgan_jax"
version = release = gptgan_jax.__version__
root_doc = "docs/index"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
include_patterns = ["docs/*.md", "examples/*.ipynb", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
exclude_patterns = [".*", "site", "runs", "tests", "gptgan_jax", "benchmarks", "findings", "configs"]

html_theme = "furo"
html_title = f"gptgan_jax {release}"
html_extra_path = ["site"]  # docs/site: the first page says where the site begins

myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_cache_path = os.path.join(os.path.dirname(__file__), "..", "site", ".cache")
nb_execution_timeout = 600
nb_execution_raise_on_error = True

autodoc_member_order = "groupwise"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_use_ivar = True
napoleon_attr_annotations = False


def as_markup(lines: list[str]) -> Iterator[str]:
    """Docstrings are plain text, in which `name` is code and * and | mean themselves.

    What is set off by a blank line and deeper than the line before, which ends in a colon, is code; so are examples.
    """
    in_example, code = False, -1  # in code: how deep the line before it is
    for line, blank, after in zip(lines, [*lines[1:], ""], [*lines[2:], "", ""], strict=False):
        depth = len(line) - len(line.lstrip())
        in_example = line.lstrip().startswith(">>>") or (in_example and bool(line.strip()))
        code = -1 if line.strip() and depth <= code else code
        if in_example or code >= 0:
            yield line
            continue
        parts = line.split("`")
        for i in range(0, len(parts), 2):
            parts[i] = re.sub(r"([\\*|]|_(?!\w))", r"\\\1", parts[i])
        marked = "``".join(parts) if len(parts) % 2 else line
        if line.endswith(":") and not blank.strip() and len(after) - len(after.lstrip()) > depth:
            marked, code = marked + ":", depth
        yield marked


def plain(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Before napoleon reads the sections."""
    lines[:] = as_markup(lines)


def skipped(app: Any, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """Fields stand in their class's docstring, and what another library defines is not ours to describe."""
    of = thing.fget if isinstance(thing, property) else thing
    ours = str(getattr(of, "__module__", "")).startswith("gptgan_jax")
    return None if ours else True


def parsed(app: Any, what: str, name: str, thing: Any, options: Any, signature: str | None, returns: str | None) -> Any:
    """A default that is made anew each time has no expression, without which a signature is not parsed."""
    return signature and signature.replace("<factory>", "..."), returns


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", plain, priority=400)
    app.connect("autodoc-process-signature", parsed)
    app.connect("autodoc-skip-member", skipped)
