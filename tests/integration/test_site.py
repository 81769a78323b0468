"""The site builds without a warning and without the network, and its pages show what they should."""

import io
import re

import pytest

import lofi_tal
from tests.pages import DOCS, PAGES

sphinx_app = pytest.importorskip("sphinx.application", reason="the docs extra is not installed")
pytest.importorskip("myst_nb")
pytest.importorskip("furo")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning"),
    pytest.mark.allow_hosts(["127.0.0.1"]),  # how the build talks to the process that executes the notebook
]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    warnings = io.StringIO()
    html, trees = folder / "html", folder / "trees"
    sphinx_app.Sphinx(DOCS, DOCS, html, trees, "html", status=None, warning=warnings).build()
    found = re.sub(r"\x1b\[[0-9;]*m", "", warnings.getvalue())
    assert not found, found
    return html


def test_every_page_is_built(site):
    names = [page.relative_to(DOCS).with_suffix(".html") for page in PAGES if DOCS in page.parents]
    assert [name for name in names if not (site / name).is_file()] == []


def test_the_reference_is_filled(site):
    text = {
        name: (site / "reference" / f"{name}.html").read_text() for name in ("commands", "recipe", "names", "errors")
    }
    assert "generated:" not in "".join(text.values())
    assert 'id="cmdoption-lofi-run-memory"' in text["commands"]
    assert 'id="confval-lofi.r_t"' in text["recipe"]
    assert all(f'id="lofi_tal.{name}"' in text["names"] for name in lofi_tal.__all__)
    assert 'id="lofi_tal.errors.DataError"' in text["errors"]


def test_the_notebook_was_executed(site):
    page = (site / "notebooks" / "own_videos.html").read_text()
    cells = (DOCS / "notebooks" / "own_videos.md").read_text().count("```{code-cell}")
    assert page.count('class="cell_input') == cells
    assert page.count('src="../_images/') == 4  # detections, a batch, the loss, detections of what was trained
    assert "shake_horizontal" in page
    assert re.search(r"average mAP 0\.\d{3}", page)
    assert "stderr" not in page
    assert list(site.rglob("own_videos.ipynb"))


def test_search_is_in_the_folder_and_knows_the_commands(site):
    assert (site / "search.html").is_file()
    assert "faq" in (site / "searchindex.js").read_text()


def test_nothing_is_loaded_from_elsewhere(site):
    loaded = re.compile(
        r"""<(?:script|img|iframe)[^>]+src="(?:https?:)?//|<link[^>]+rel="stylesheet"[^>]+href="(?:https?:)?//"""
    )
    foreign = [page.name for page in site.rglob("*.html") if loaded.search(page.read_text())]
    foreign += [
        sheet.name for sheet in site.rglob("*.css") if re.search(r"@import|url\([\"']?https?:", sheet.read_text())
    ]
    assert foreign == []
