"""How much do generated tests try?

Always the same; with `HYPOTHESIS_PROFILE=proof` much more, and other things each time.
"""

import os

import hypothesis
from hypothesis import HealthCheck, settings

QUICK = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "database": None,
    "print_blob": True,
}
settings.register_profile(
    "quick", max_examples=30, stateful_step_count=40, derandomize=True, **QUICK
)
settings.register_profile("proof", max_examples=3000, stateful_step_count=80, **QUICK)

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "quick")
CHOSEN = settings.get_profile(PROFILE)
# Histories with PostgreSQL and clients cost more than other examples.
LONG_HISTORIES = settings(CHOSEN, max_examples=50) if PROFILE == "quick" else CHOSEN


def given(*strategies, times=1.0):
    """Hypothesis's, with so many times the examples that the profile says."""
    chosen = settings(CHOSEN, max_examples=int(CHOSEN.max_examples * times))
    return lambda test: chosen(hypothesis.given(*strategies)(test))
