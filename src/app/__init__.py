"""The application: hooks read facts, the domain decides, and intents act through ports."""
