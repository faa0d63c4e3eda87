"""Ports over databags, secrets and status, by ops."""
