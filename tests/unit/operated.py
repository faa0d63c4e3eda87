"""Units in memory for tests of what an operator asks of a running application."""

import re

from in_memory import related

from domain.operations import ClientSession


def three_units():
    """Return three units of two processes each, with the databases shop and blog."""
    platform = related(units=3)
    platform.relate("shop-app", "shop")
    platform.relate("blog-app", "blog")
    platform.settle()
    return platform


def session(number, **fields):
    """Return a session of a client at shop."""
    fields = {"user": "relation_id_1", "alias": "shop", "address": "10.9.9.9:1"} | fields
    return ClientSession(number=number, **fields)


def rows(text):
    """Return the lines of a text, with two spaces between the columns."""
    return [re.sub(" {2,}", "  ", line) for line in text.splitlines()]
