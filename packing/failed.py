"""The error of this package."""

from __future__ import annotations


class Failed(Exception):
    """The charm cannot be packed; the text says why, and what to do next."""
