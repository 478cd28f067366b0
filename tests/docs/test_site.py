"""The site: built of the pages without a warning, complete, and of nothing that comes from another server."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BROUGHT = re.compile(
    r"""<(?:script|img|iframe)\b[^>]*\ssrc="([^"]+)"|<link\b[^>]*\shref="([^"]+)"|url\(["']?([^)"']+)"""
)
"""What a browser fetches by itself, in a page or a style sheet."""
FOREIGN = re.compile(r"(?:https?:)?//")
GUIDES = {
    "Async usage",
    "Caching",
    "Deployment",
    "Migration",
    "Monitoring",
    "Performance tuning",
    "Troubleshooting",
    "Workflow optimisation",
}
"""What users were promised by these names."""


def build(folder: Path, source: Path = ROOT / "docs") -> "subprocess.CompletedProcess[str]":
    """Build the site as `make site` does."""
    command = [sys.executable, "-m", "sphinx", "-q", "-N", "-W", "--keep-going", str(source), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_site(tmp_path: Path) -> None:
    """It has every page, the promised guides by their names, a search of its own, and asks no other server."""
    built = build(tmp_path)
    assert built.returncode == 0, built.stderr

    pages = {page.relative_to(ROOT / "docs").with_suffix(".html") for page in (ROOT / "docs").rglob("*.md")}
    assert sorted(page for page in pages if not (tmp_path / page).is_file()) == []
    front = (tmp_path / "index.html").read_text(encoding="utf-8")
    named = dict(re.findall(r'<li class="toctree-l1"><a class="reference \w+" href="([^"]+)">([^<]+)', front))
    assert sorted(str(page) for page in pages - {Path("README.html")} if str(page) not in named) == []
    assert sorted(GUIDES - set(named.values())) == []
    assert "how-to/cache" in (tmp_path / "searchindex.js").read_text(encoding="utf-8")

    for path in [*tmp_path.rglob("*.html"), *tmp_path.rglob("*.css")]:
        brought = ["".join(found) for found in BROUGHT.findall(path.read_text(encoding="utf-8"))]
        assert [address for address in brought if FOREIGN.match(address)] == [], path


def test_a_warning_is_an_error(tmp_path: Path) -> None:
    """A page that no section of the first one links, and a link to a heading that is not there, end the build."""
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "conf.py").write_bytes((ROOT / "docs" / "conf.py").read_bytes())
    (docs / "README.md").write_text("# First\n\n## Part\n\n[Linked](linked.md)\n")
    (docs / "linked.md").write_text("# Linked\n\n[Nothing](#nothing)\n\n[Out](../pyproject.toml)\n")
    (docs / "forgotten.md").write_text("# Forgotten\n")
    built = build(tmp_path / "site", docs)
    assert built.returncode != 0
    assert sorted(re.findall(r"(\w+\.md)\S* WARNING: (.*)", built.stderr)) == [
        ("forgotten.md", "document isn't included in any toctree [toc.not_included]"),
        ("linked.md", "'myst' cross-reference target not found: 'nothing' [myst.xref_missing]"),
    ]
    assert "/blob/main/pyproject.toml" in (tmp_path / "site" / "linked.html").read_text()
