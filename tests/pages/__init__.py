"""The shell blocks of the pages, run as a reader would run them."""
