"""The verbs of the command. Each takes the invocation and the arguments, and returns the exit code."""
