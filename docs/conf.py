"""The documentation's site: `make docs` builds it into build/docs. Every warning is an error, dead links among them."""

import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import drawings

from fissile.formats import FISSILE

project = "Fissile"
version = release = FISSILE
copyright = "the authors of Fissile, Apache-2.0"
exclude_patterns = ["decisions/README.md"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.graphviz", "sphinx_copybutton"]
source_suffix = {".md": "markdown"}
myst_enable_extensions = ["colon_fence"]
# Links to a heading of another page, as GitHub makes them.
myst_heading_anchors = 4
nitpicky = True
# What is not documented here, and shows its name alone.
nitpick_ignore_regex = [("py:.*", r"(?!fissile).*"), ("py:.*", r"fissile\.(component|testing\.worlds)\..*")]
# Docstrings are Markdown's cousins: `name` is code.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
graphviz_output_format = "svg"

html_theme = "furo"
html_title = f"Fissile {release}"
html_static_path = ["_site"]
html_css_files = ["fissile.css"]
html_show_sphinx = False
html_copy_source = False


# Of documents that stand outside this folder, links lead to the pages that the site has of them; others to no page.
PAGES = {"ARCHITECTURE.md": "architecture.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}


def _adapt(app: Any, docname: str, source: list[str]) -> None:
    """Links that lead out of docs/ in the repository lead to the site's own page, or become plain text."""

    def adapted(found: re.Match[str]) -> str:
        text, target = found["text"], found["target"]
        page, _, heading = target.partition("#")
        if page.startswith(("http:", "https:", "mailto:")) or not page:
            return found[0]
        name = page.rpartition("/")[2]
        if page.startswith("../") and name in PAGES and page.strip("./") == name:
            up = "../" * docname.count("/")
            return f"[{text}]({up}{PAGES[name]}{'#' + heading if heading else ''})"
        here = (Path(app.srcdir) / docname).parent / page
        return found[0] if here.resolve().is_relative_to(Path(app.srcdir).resolve()) and here.is_file() else text

    source[0] = re.sub(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<target>[^)\s]+)\)", adapted, source[0])


def _outside(app: Any) -> None:
    """Pages of documents at the root of the repository, written anew for each build."""
    folder = Path(app.srcdir)
    for name, page in PAGES.items():
        text = (folder.parent / name).read_text()
        text = re.sub(r"\]\(docs/decisions(/README.md)?\)", "](decisions/index.md)", text).replace("](docs/", "](")
        _write(folder / page, f"<!-- Made from {name}: change it there. -->\n\n{text}")
    decisions = (folder / "decisions/README.md").read_text()
    names = sorted(path.stem for path in (folder / "decisions").glob("0*.md"))
    toctree = "\n".join(["", "```{toctree}", ":hidden:", *names, "```", ""])
    _write(folder / "decisions/index.md", f"<!-- Made from README.md: change it there. -->\n\n{decisions}{toctree}")
    for name, source in drawings.all_of_them().items():
        _write(folder / "explanation" / f"{name}.dot", source)


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def setup(app: Any) -> None:
    """See Sphinx."""
    app.connect("builder-inited", _outside)
    app.connect("source-read", _adapt)
