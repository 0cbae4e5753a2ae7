"""Completion for bash and zsh, made of the parser by shtab: what ``scripts/reference`` writes.

Names are added here, by the word that stands for them in a usage line: ``NAME`` is a device,
``PARAM`` a parameter.  Names of devices, tiers and backends are looked up when a key is
pressed, in the runtime directory and in the configuration.  No Python is started for that.  Names
of parameters and columns are those of this version.

Nothing of fuseswap imports this, and shtab is needed where the files are made only.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from typing import Final

from fuseswap.cli import mount_options, ps, status, tier
from fuseswap.cli.commands import build_parser
from fuseswap.cli.manual import word_of
from fuseswap.codecs.lz4 import Lz4
from fuseswap.codecs.zstd import Zstd
from fuseswap.filesystem.parameters import PARAMETERS

FILES: Final = {"mount/fuseswap.bash-completion": "bash", "mount/_fuseswap": "zsh"}

# Of POSIX sh, but for `local`.  What a worker answers may take long where it is stuck.
_LISTS = r"""
_fuseswap_root() {
  if [ -n "$FUSESWAP_RUNTIME_DIR" ]; then echo "$FUSESWAP_RUNTIME_DIR"
  elif [ "$(id -u)" = 0 ]; then echo /run/fuseswap
  elif [ -n "$XDG_RUNTIME_DIR" ]; then echo "$XDG_RUNTIME_DIR/fuseswap"
  else echo "/tmp/fuseswap-$(id -u)"; fi
}
_fuseswap_list_devices() {
  {
    ls -1 "$(_fuseswap_root)"
    find /etc/fuseswap.conf /etc/fuseswap.conf.d -name '*.conf' -type f \
      -exec sed -n 's/^\[\([^]]*\)\].*/\1/p' {} +
  } 2>/dev/null | sort -u
}
_fuseswap_list_labels() {
  timeout 1 find "$(_fuseswap_root)" -maxdepth 5 -path "*/mnt/stats/$1.*" 2>/dev/null |
    sed "s/.*$1\.//" | sort -u
}
_fuseswap_list_tiers() { _fuseswap_list_labels tier_segments; }
_fuseswap_list_backends() { _fuseswap_list_labels curr_pages; }
_fuseswap_list_pids() { ls -1 /proc | grep -x '[0-9]*'; }
"""
_LOOKED_UP = {"NAME": "devices", "TIER": "tiers", "BACKEND": "backends", "PID": "pids"}
_PATHS = {
    "PATH": "file",
    "FILE": "file",
    "TRACE": "file",
    "PATH[,encrypt=no]": "file",
    "BACKING": "file",
    "DIR": "directory",
    "-- COMMAND": "command",
}
_IN_BASH = {"file": "_shtab_compgen_files", "directory": "_shtab_compgen_dirs"}
_IN_ZSH = {"file": "_files", "directory": "_files -/", "command": "_command_names -e"}
# A number, a size or an address: there is nothing to offer.
FREE: Final = frozenset(
    {
        *("SIZE", "N", "SECONDS", "PERCENT", "MINUTES", "BYTES", "PAGE", "ADDRESS", "SPEC"),
        *("POOL_LIMIT", "PRIORITY", "MEMORY", "ORDER", "KIND"),
    }
)
_TAIL_OF_BASH = """
# No blank behind what goes on: PARAM=, and a column behind a comma.
_fuseswap() {
  _shtab_fuseswap "$@"
  case "${COMPREPLY[0]-}" in *=) compopt -o nospace 2>/dev/null ;; esac
}
complete -o bashdefault -F _fuseswap fuseswap
"""


def lists() -> dict[str, tuple[list[str], bool]]:
    """Words for what stands in a usage line, and whether several may stand there, with commas."""
    parameters = [parameter.name for parameter in PARAMETERS]
    return {
        "PARAM": (parameters, False),
        "PARAM=VALUE": ([f"{name}=" for name in parameters], False),
        "SETTING=VALUE": ([f"{name}=" for name in tier.SETTINGS], False),
        "OPT[=VALUE],...": ([f"{name}=" for name in sorted(mount_options.OURS)], False),
        "COLS": ([column.name for column in status.COLUMNS], True),
        "COLUMN": ([column.name for column in ps.COLUMNS], False),
        "COMPRESSOR": ([Lz4.name, Zstd.name], False),
    }


def arguments(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Of all commands what takes a word that the parser does not list."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from arguments(command)
        elif action.choices is None and action.nargs != 0 and action.help is not argparse.SUPPRESS:
            yield action


def made(shell: str) -> str:
    """The whole file for ``bash`` or ``zsh``."""
    import shtab

    parser = build_parser()
    functions = known()
    for action in arguments(parser):
        if (word := word_of(action)) not in FREE:
            vars(action)["complete"] = functions[word]
    preamble = {"bash": _LISTS + "\n".join(_bash()), "zsh": _LISTS + "\n".join(_zsh())}
    text = str(shtab.complete(parser, shell=shell, preamble=preamble[shell]))
    return _tidy(text + (_TAIL_OF_BASH if shell == "bash" else ""))


def known() -> dict[str, dict[str, str]]:
    """By word: the function that offers something for it, in each shell."""
    return {**_looked_up(), **_listed()}


def _tidy(text: str) -> str:
    lines = (line.rstrip() for line in text.splitlines())
    kept = [line for line in lines if not line.startswith("# AUTOMATICALLY GENERATED")]
    head = 1 if kept[0].startswith("#compdef") else 0
    note = "# Made by scripts/reference of the command line's parser (shtab): do not edit"
    return "\n".join([*kept[:head], note, *kept[head:]]).rstrip("\n") + "\n"


def _looked_up() -> dict[str, dict[str, str]]:
    found = {word: _both(f"_fuseswap_{what}") for word, what in _LOOKED_UP.items()}
    for word, what in _PATHS.items():
        found[word] = {
            "bash": _IN_BASH.get(what, f"_fuseswap_{what}"),
            "zsh": _IN_ZSH[what],
        }
    return found


def _listed() -> dict[str, dict[str, str]]:
    return {word: _both(f"_fuseswap_{_plain(word)}") for word in lists()}


def _both(function: str) -> dict[str, str]:
    return {"bash": function, "zsh": function}


def _plain(word: str) -> str:
    return "".join(character if character.isalnum() else "_" for character in word).lower()


def _bash() -> Iterator[str]:
    for what in _LOOKED_UP.values():
        yield _function(what, f'compgen -W "$(_fuseswap_list_{what})" -- "$1"')
    yield _function("command", 'compgen -c -- "$1"')
    for word, (words, several) in lists().items():
        head = ' -P "${1%"${1##*,}"}"' if several else ""
        last = '"${1##*,}"' if several else '"$1"'
        yield _function(_plain(word), f'compgen{head} -W "{_joined(words)}" -- {last}')


def _zsh() -> Iterator[str]:
    for what in _LOOKED_UP.values():
        yield _function(what, f'compadd -- ${{(f)"$(_fuseswap_list_{what})"}}')
    for word, (words, several) in lists().items():
        if several:
            yield _function(_plain(word), f"_values -s , column {_joined(words)}")
        else:
            suffix = "-S '' " if words[0].endswith("=") else ""
            yield _function(_plain(word), f"compadd {suffix}-- {_joined(words)}")


def _function(name: str, body: str) -> str:
    return f"_fuseswap_{name}() {{ {body}; }}"


def _joined(words: Iterable[str]) -> str:
    return " ".join(words)
