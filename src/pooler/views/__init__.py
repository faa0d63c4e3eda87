"""What `status`, `top` and `doctor` show, as values: the same values are printed as JSON and drawn on a terminal."""
