"""What pooling PostgreSQL for applications means, with no word of where it runs."""
