"""Tests that a double in memory and the real program both pass."""

import pytest

pytest.register_assert_rewrite(
    "contract.consoles",
    "contract.databases",
    "contract.pooler",
    "contract.server",
    "contract.unit",
    "contract.withdrawal",
)
