"""The port `Exposure` over the API of Kubernetes, by lightkube."""
