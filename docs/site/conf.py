"""The documentation site: ``make docs`` builds it into build/site, without a network."""

import re
import shutil
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

project = "Likeness"
author = "The Likeness authors"
copyright = "The Likeness authors"  # Sphinx's own name for the line at the foot of a page
extensions = ["myst_parser", "autoapi.extension", "sphinx.ext.napoleon", "sphinx_copybutton"]

# The source folder is the repository's root, so a link that works in the repository works in the site too.
root_doc = "README"
include_patterns = ["README.md", "CONTRIBUTING.md", "DATA.md", "CHANGELOG.md", "docs/**"]
myst_heading_anchors = 4

# The API reference is read from the source. Nothing is imported, and a new file gets its page by itself.
autoapi_dirs = ["contracts", "lightning_modules", "datamodules", "metrics", "losses", "networks"]
autoapi_root = "docs/reference"
autoapi_add_toctree_entry = False
autoapi_member_order = "bysource"
autoapi_options = ["members", "undoc-members", "show-inheritance", "show-module-summary"]
autoapi_python_class_content = "both"
napoleon_use_ivar = True  # an attribute that a docstring and the class name would be documented twice
suppress_warnings = ["autoapi.python_import_resolution"]  # names that a module only imports are not documented anyway
add_module_names = False
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "Likeness"
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["site.css"]

NAVIGATION = """

```{toctree}
:hidden:
:caption: Use

docs/own_photos
docs/base_models
docs/training
docs/data
docs/generate
docs/evaluation
docs/results
docs/pocket_world
docs/performance
```

```{toctree}
:hidden:
:caption: Methods

docs/ip_adapter
docs/spotdiff
docs/pidiff
docs/sefi_ide
docs/textual_inversion
docs/dreambooth_lora
```

```{toctree}
:hidden:
:caption: Project

CONTRIBUTING
DATA
CHANGELOG
```

```{toctree}
:hidden:
:caption: API reference

%s
```
"""
"""Appended to the start page. A page that is in no list fails the build."""


def add_navigation(app: Sphinx, name: str, source: list[str]) -> None:
    """Append the lists of pages to the start page, whose file has none: GitHub would show them as code."""
    if name == root_doc:
        source[0] += NAVIGATION % "\n".join(f"docs/reference/{room}/index" for room in autoapi_dirs)


def escape(line: str) -> str:
    """Escape what reStructuredText would read as markup, outside of literals: bars and stars of formulas, and a plural
    right behind a literal."""
    parts = re.split(r"(``[^`]+``)", line)
    for at in range(0, len(parts), 2):
        parts[at] = re.sub(r"([|*])", r"\\\1", parts[at])
        if at > 0 and parts[at][:1].isalnum():
            parts[at] = "\\ " + parts[at]
    return "".join(parts)


def mend_docstring(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Make a plain docstring valid reStructuredText; indented text after an empty line becomes code."""
    mended: list[str] = []
    code = False
    for number, line in enumerate(lines):
        if line.startswith("    "):
            starts_block = number > 0 and not lines[number - 1].strip() and not code
            if starts_block and not any(mended[-2].rstrip().endswith(end) for end in ("::", "Args:", "Raises:")):
                mended += ["::", ""]
                code = True
        elif line.strip():
            code = False
        mended.append(line if code else escape(line))
    lines[:] = mended


def skip_bare_attributes(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out attributes of which the source says neither a type nor a meaning."""
    bare = what in ("attribute", "data") and not obj.docstring and not obj.annotation
    return True if bare else None


def add_index(app: Sphinx, error: Exception | None) -> None:
    """The start page is the README; a web server and a reader look for ``index.html``."""
    if error is None:
        shutil.copyfile(Path(app.outdir) / f"{root_doc}.html", Path(app.outdir) / "index.html")


def setup(app: Sphinx) -> None:
    app.connect("source-read", add_navigation)
    app.connect("autoapi-skip-member", skip_bare_attributes)
    app.connect("autodoc-process-docstring", mend_docstring, priority=100)
    app.connect("build-finished", add_index)
