"""The name of the application that `pooler up` relates for a demonstration."""

DEMO = "demo"
