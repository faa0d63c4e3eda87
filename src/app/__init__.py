"""Use cases: look, let the domain decide, act through ports."""
