"""Sentences of the status on what an operator asked for by an action."""

from domain.problems import Kind, Level

PAUSED = Kind(
    Level.ACTIVE,
    "{databases} paused since {since}: transactions wait, run `{command}` to end the pause",
    "run the command in the sentence when PostgreSQL can be used again",
)
PAUSE_INCOMPLETE = Kind(
    Level.WAITING,
    "the pause of {databases} is not complete: {reason}",
    "wait, or end the transaction of the client. `resume` ends the pause. If the pause has a timeout, it is"
    " taken back by itself",
)
PAUSE_TAKEN_BACK = Kind(
    Level.ACTIVE,
    "the pause of {database} was taken back after {seconds} s: {reason}",
    "let the client end its transaction, or disconnect it with `kill-clients`, and run `pause` again."
    " `resume` removes the sentence",
)
DISABLED = Kind(
    Level.ACTIVE,
    "clients cannot log in to {databases}: run `{command}` to let them",
    "run the command in the sentence",
)

KINDS = (PAUSED, PAUSE_INCOMPLETE, PAUSE_TAKEN_BACK, DISABLED)
