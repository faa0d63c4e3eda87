"""The Kubernetes API, over lightkube."""
