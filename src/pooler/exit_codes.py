"""The exit codes of the command `pooler`."""

DONE = 0
FAILED = 1
MISUSED = 2

# 128 and the number of SIGINT or SIGPIPE, as a shell reports a program that a signal has ended.
INTERRUPTED = 130
UNREAD = 141

MEANINGS = {
    DONE: "done",
    FAILED: "failed; the message says what is wrong and what to do next",
    MISUSED: "the command line was wrong, and nothing was changed",
    INTERRUPTED: "interrupted by Ctrl-C",
    UNREAD: "the reader of the output ended first, as `head` does",
}
