"""Make the scripts that complete the words of the command in a shell."""

from __future__ import annotations

import shtab

from pooler.commandline.names import options
from pooler.commandline.parser import parser
from pooler.commandline.verb import actions, summary

# What completes the value of an argument, by the argument's name: functions that are defined below.
_COMPLETED = {
    name: {"bash": f"_pooler_{kind}", "zsh": f"_pooler_{kind}", "fish": f"(__pooler_{kind})"}
    for name, kind in (
        ("name", "applications"),
        ("unit", "units"),
        ("settings", "settings"),
        ("reset", "options"),
    )
}

# `relate` takes the name of a new application.
_NEW_NAMES = {"relate"}

_BEFORE = {
    "bash": r"""
_pooler_names() { "${COMP_WORDS[0]/#\~/$HOME}" names "$1" 2>/dev/null; }
_pooler_applications() { compgen -W "$(_pooler_names applications)" -- "$1"; }
_pooler_units() { compgen -W "$(_pooler_names units)" -- "$1"; }
_pooler_options() { compgen -W "@OPTIONS@" -- "$1"; }
_pooler_settings() { compgen -S = -W "@OPTIONS@" -- "$1"; }
""",
    "zsh": r"""
_pooler_names() { compadd -- ${(f)"$(${_pooler_command:-pooler} names $1 2>/dev/null)"} }
_pooler_applications() { _pooler_names applications }
_pooler_units() { _pooler_names units }
_pooler_options() { compadd -- @OPTIONS@ }
_pooler_settings() { compadd -q -S = -- @OPTIONS@ }
""",
    "fish": r"""
function __pooler_names
  set -l words (commandline -opc)
  set -l program (string replace -r '^~/' "$HOME/" -- $words[1])
  $program names $argv[1] 2>/dev/null
end
function __pooler_applications; __pooler_names applications; end
function __pooler_units; __pooler_names units; end
function __pooler_options; string split ' ' -- '@OPTIONS@'; end
function __pooler_settings; string replace -r '$' = -- (__pooler_options); end
""",
}

_AFTER = {
    # Bash takes the `=` of `pool_mode=session` as a word. A value follows `pool_mode=`, and no space.
    "bash": r"""
_pooler() {
  if [[ "${COMP_WORDS[COMP_CWORD]}" == "=" || "${COMP_WORDS[COMP_CWORD-1]}" == "=" ]]; then
    COMPREPLY=()
    return
  fi
  _shtab_pooler
  [[ "${COMPREPLY[0]-}" == *= ]] && compopt -o nospace 2>/dev/null
  return 0
}
complete -o bashdefault -F _pooler pooler
""",
    # `_shtab_pooler` changes `words`, whose first word is the command.
    "zsh": r"""
_pooler() {
  local _pooler_command=${~words[1]}
  _shtab_pooler "$@"
}
compdef _pooler pooler
""",
    "fish": "",
}


def script(shell: str) -> str:
    """Return the script for a shell: bash, zsh or fish."""
    pooler = parser(prog="pooler")
    for name, verb in pooler.verbs.items():
        # shtab shows the first line of a description.
        verb.description = summary(verb)
        for action in actions(verb):
            if action.metavar:
                # zsh takes the `:` in HOST:PORT as the end of a text.
                action.metavar = action.dest.upper()
            if action.dest == "about":
                action.choices = [name for name in pooler.verbs if summary(pooler.verbs[name])]
            if action.dest in _COMPLETED and name not in _NEW_NAMES:
                vars(action)["complete"] = _COMPLETED[action.dest]
    before = _BEFORE[shell].replace("@OPTIONS@", " ".join(options()))
    return shtab.complete(pooler, shell, preamble=before) + _AFTER[shell]
