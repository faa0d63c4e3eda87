"""The ports `Pooler` and `Reminder` over the workload container, by Pebble."""
