"""How sphinx makes the site of these pages: make site."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import pandas as pd

import reports.frames

reports.frames.pd = pd  # there only for type checkers, and annotations are evaluated here

project = "sidestep"
author = "the sidestep authors"
project_copyright = "the sidestep authors, MIT licence"
version = release = version_of("sidestep")

extensions = ["myst_parser", "sphinx_click", "sphinx.ext.autodoc"]
# Headings can be linked to by the names that git hosts give them.
myst_heading_anchors = 3
highlight_language = "none"
# Help texts mark commands with single backticks, and -- begins an option.
default_role = "literal"
smartquotes = False

nitpicky = True
# Other projects' objects: a look-up of theirs would need the network.
nitpick_ignore_regex = [("py:.*", r"(pd|pandas|pathlib|msgspec)\..*|(.*\.)?Document")]

html_theme = "furo"
html_title = "sidestep"
html_copy_source = False
html_show_sphinx = False
html_show_search_summary = False  # it is fetched, which browsers refuse to pages from files
html_static_path = ["static"]
html_css_files = ["site.css"]
