"""The workload container, over Pebble."""
