"""Build the site of the documentation: `make docs` writes it to build/site.

The pages are plain Markdown, so that they can also be read on GitHub. The source directory is the root of the
repository: README.md and its neighbours are pages of the site, and Sphinx checks their links and anchors, too.
"""

project = "PgBouncer for Juju"
html_title = project
extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md"]
exclude_patterns = [".*", "build", "requirements", "src", "templates", "tests"]
html_theme = "alabaster"
html_theme_options = {"description": "One pool for all units", "page_width": "60em"}
html_show_copyright = False
# A block without a language is text.
highlight_language = "none"
# Headings get the anchors that GitHub gives them.
myst_heading_anchors = 4
nitpicky = True
