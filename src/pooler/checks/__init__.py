"""The checks of `pooler doctor`. Each check limits its own time, and changes nothing."""
