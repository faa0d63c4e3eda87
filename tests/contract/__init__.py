"""What holds for a part in memory and for the real one: the same tests, run with both."""

import pytest

pytest.register_assert_rewrite(
    "contract.consoles", "contract.databases", "contract.pooler", "contract.unit"
)
