"""The command line of `pooler`: its verbs and their arguments, without what the verbs do."""
