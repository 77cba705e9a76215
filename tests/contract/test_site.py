"""The site builds from docs/ without a warning, and what it links to is there."""

import importlib.util
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


def built(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    options = ["-q", "-W", "--keep-going", "-c", str(DOCS), "-d", str(target.with_suffix(".trees"))]
    return subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(source), str(target)],
        cwd=DOCS.parent,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site") / "html"
    done = built(DOCS, target)
    assert (done.returncode, done.stderr) == (0, "")
    return target


class Page(HTMLParser):
    """What a page can be linked to by, what it links to, and what a browser loads for it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors.update(given[name] for name in ("id", "name") if name in given)
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and "href" in given:
            self.loads.append(given["href"])
        elif "src" in given:
            self.loads.append(given["src"])


@pytest.mark.slow
def test_every_page_can_be_reached_from_the_first(site: Path) -> None:
    first = Page(site / "index.html")
    shown = {urlsplit(link).path for link in first.links} | {"index.html"}
    made = {page.relative_to(DOCS).with_suffix(".html").as_posix() for page in PAGES}
    assert made - shown == set()


@pytest.mark.slow
def test_what_is_linked_to_is_there(site: Path) -> None:
    pages = {path: Page(path) for path in site.rglob("*.html")}
    missing = [
        f"{page.path.relative_to(site)}: {link}"
        for page in pages.values()
        for link in page.links + page.loads
        if not urlsplit(link).scheme and not _is_there(page, link, pages)
    ]
    assert missing == []


def _is_there(page: Page, link: str, pages: dict[Path, Page]) -> bool:
    parts = urlsplit(link)
    path = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
    if not path.is_file():
        return False
    return not parts.fragment or path not in pages or parts.fragment in pages[path].anchors


@pytest.mark.slow
def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    loaded = {one for path in site.rglob("*.html") for one in Page(path).loads}
    assert [one for one in loaded if urlsplit(one).netloc] == []
    styles = [path.read_text() for path in site.rglob("*.css")]
    assert styles
    assert not [text for text in styles if "url(http" in text or "url(//" in text]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "named"),
    [
        ("[there](missing.md)", "missing.md"),
        ("[there](#no-such-heading)", "no-such-heading"),
        ("```{toctree}\nmissing\n```", "missing"),
    ],
)
def test_a_mistake_in_a_page_is_named_and_fails(tmp_path: Path, page: str, named: str) -> None:
    source = tmp_path / "docs"
    source.mkdir()
    (source / "index.md").write_text(f"# A page\n\n{page}\n")
    done = built(source, tmp_path / "html")
    assert done.returncode != 0
    assert named in done.stderr


def test_the_reference_pages_are_current() -> None:
    spec = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, page in module.PAGES.items():
        written = (DOCS / "reference" / f"{name}.md").read_text()
        assert page() == written, "run docs/reference.py --write"
