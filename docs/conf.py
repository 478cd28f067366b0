"""The site, for Sphinx: `make site` builds it into `build/site`, of the very pages that the repository shows.

`docs/README.md` is its first page and its navigation: each section there is a part of the sidebar, each link a page by
that name. A page that is not linked there, a link that leads nowhere and a block that is not in its language are
warnings, and warnings are errors. Nothing on the site comes from another server.
"""  # noqa: INP001 - Sphinx reads it as a file

import re
import shutil
import tomllib
from pathlib import Path

from sphinx.application import Sphinx

_DOCS = Path(__file__).resolve().parent
_PROJECT = tomllib.loads((_DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
_SECTION = re.compile(r"^## (.+)\n((?:(?!## ).*\n)*)", re.MULTILINE)

project = _PROJECT["name"]
extensions = ["myst_parser"]
root_doc = "README"
myst_heading_anchors = 4  # made as GitHub makes them, so a link to a heading works on both
html_theme = "furo"  # light and dark, and no web fonts
html_title = project
html_copy_source = html_use_index = False
html_show_copyright = False


def setup(app: Sphinx) -> None:
    """Have pages read, and the site finished, as below."""
    app.connect("source-read", _read)
    app.connect("build-finished", _finish)


def _read(app: Sphinx, page: str, source: list[str]) -> None:
    source[0] = _LINK.sub(lambda link: f"[{link[1]}]({_leading_out(page, link[2])})", source[0])
    if page == app.config.root_doc:
        source[0] += "".join(_part(title, text) for title, text in _SECTION.findall(source[0]))


def _leading_out(page: str, link: str) -> str:
    """Where a link leads from the site: what lies outside of `docs/` is in the repository."""
    path = (_DOCS / page).parent.joinpath(link).resolve()
    if path.is_relative_to(_DOCS):  # also an address, and a heading
        return link
    return f"{_PROJECT['urls']['Source']}/blob/main/{path.relative_to(_DOCS.parent).as_posix()}"


def _part(title: str, text: str) -> str:
    """A part of the sidebar: the pages that a section of the first page links."""
    pages = [f"{name} <{target}>" for name, target in _LINK.findall(text) if target.endswith(".md")]
    tree = ["", "```{toctree}", ":hidden:", f":caption: {title}", "", *pages, "```", ""]
    return "\n".join(tree) if pages else ""


def _finish(app: Sphinx, error: Exception | None) -> None:
    """A site begins at its `index.html`."""
    if error is None:
        shutil.copyfile(app.outdir / f"{app.config.root_doc}.html", app.outdir / "index.html")
