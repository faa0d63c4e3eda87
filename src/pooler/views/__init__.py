"""What `status`, `top` and `doctor` show, as values that are printed as JSON or drawn on a terminal."""
