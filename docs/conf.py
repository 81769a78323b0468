"""The documentation site: `make docs` builds it into build/site, without the network."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import generated

import lofi_tal

project = "lofi-tal"
author = "The lofi-tal developers"
copyright = author
version = release = lofi_tal.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_static", "pictures"]
source_suffix = {".md": "myst-nb"}
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4

nb_execution_mode = "force"  # of notebooks/; a cell that fails ends the build
nb_execution_raise_on_error = True
nb_execution_timeout = 300  # seconds a cell
nb_execution_show_tb = True

default_role = "code"  # single backticks in docstrings are code, as in Markdown
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_format = "short"
toc_object_entries_show_parents = "hide"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(torch|numpy|pathlib|collections|pd)\..*"),  # their documentation would need the network
    ("py:.*", r"lofi_tal\.(\w+\.)+\w+|ArmRun\.\w+"),  # ours, but not public
    # the same, by their short names
    ("py:class", "Axes|Path|DetectSection|ProposalClassifier|ScoreSheet|Shown|Strategy|Suppression"),
]

html_theme = "furo"
html_title = f"lofi-tal {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}


def setup(app):
    """Fill in what is written from the code, and lead every reference to a public name to its one description."""
    app.connect("source-read", generated.fill_page)
    app.connect("missing-reference", generated.find_public_name)
