"""The rows of the dashboard, from top to bottom."""

from domain.dashboard.clients import pools_row, waiting_row, well_row
from domain.dashboard.machines import logs_row, postgresql_row, processes_row, units_row
from domain.dashboard.panels import Row


def rows() -> tuple[Row, ...]:
    """Return all rows: first what clients see, then where it comes from."""
    return (
        well_row(),
        waiting_row(),
        pools_row(),
        processes_row(),
        units_row(),
        postgresql_row(),
        logs_row(),
    )
