"""Every shell block of a page runs on a machine whose reader reads this page first."""

import contextlib

import pytest

from pages.blocks import NOT_RUN, page
from pages.machine import ROOT, Machine

# test_newcomer.py runs these.
FOLLOWED = ("README.md", "docs/tutorial.md")
PAGES = [
    page(path, str(path.relative_to(ROOT)))
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
]


@pytest.mark.parametrize(
    "read",
    [page for page in PAGES if page.runs and page.name not in FOLLOWED],
    ids=lambda page: page.name,
)
def test_the_shell_blocks_of_a_page_do_what_the_page_says(read):
    for block in read.not_run:
        print(f"{read.name}:{block.line}: not run, {NOT_RUN[block.mark]}")
    with contextlib.closing(Machine()) as machine:
        failure = machine.read(read)
    assert failure is None, str(failure)
