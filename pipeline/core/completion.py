"""Shell completion: a script for bash (and zsh, through bashcompinit) that completes `make` and `r1-ladder` here.

eval "$(.venv/bin/python -m pipeline completion)"
"""

import argparse
import re
from pathlib import Path

MAKEFILE = Path(__file__).parents[2] / "Makefile"

SCRIPT = """\
# R1 Ladder: completion of `make` (in a folder with this Makefile) and of `r1-ladder`.
[ -n "$ZSH_VERSION" ] && autoload -U +X bashcompinit && bashcompinit
_r1_ladder_profiles() {{ for file in configs/*.yaml; do file=${{file##*/}}; echo "${{file%.yaml}}"; done; }}
_r1_ladder_runs() {{ for folder in runs/*/; do folder=${{folder%/}}; echo "${{folder##*/}}"; done; }}
_r1_ladder_words() {{ COMPREPLY=($(compgen -W "$1" -- "$2")); }}
_r1_ladder_make() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
  if [ "$word" = "=" ]; then word=""; elif [ "$before" = "=" ]; then before=${{COMP_WORDS[COMP_CWORD-2]}}; fi
  case "$before" in
    PROFILE|LIKE) _r1_ladder_words "$(_r1_ladder_profiles)" "$word" ;;
    RUN|RUNS) _r1_ladder_words "$(_r1_ladder_runs)" "$word" ;;
    *) _r1_ladder_words "{targets} {variables}" "$word"; [[ "${{COMPREPLY[*]}}" == *= ]] && compopt -o nospace ;;
  esac 2>/dev/null
}}
_r1_ladder() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
  case "$before" in
    --profile|--like) _r1_ladder_words "$(_r1_ladder_profiles)" "$word"; return ;;
    --run) _r1_ladder_words "$(_r1_ladder_runs)" "$word"; return ;;
  esac
  [ "$COMP_CWORD" = 1 ] && {{ _r1_ladder_words "{commands}" "$word"; return; }}
  case "${{COMP_WORDS[1]}}" in
{options}
  esac
}}
complete -F _r1_ladder_make make
complete -F _r1_ladder r1-ladder
"""


def completion_script(parser: argparse.ArgumentParser, targets: list[str]) -> str:
    """The script for a parser with subcommands. `targets` are those of the Makefile that no `## help` names."""
    [subparsers] = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    options = [
        f'    {name}) _r1_ladder_words "{" ".join(sorted(_long_options(sub)))}" "$word" ;;'
        for name, sub in subparsers.choices.items()
    ]
    helped, variables = _of_makefile()
    return SCRIPT.format(
        targets=" ".join(dict.fromkeys([*helped, *targets])),
        variables=" ".join(f"{name}=" for name in variables),
        commands=" ".join(subparsers.choices),
        options="\n".join(options),
    )


def _long_options(parser: argparse.ArgumentParser) -> list[str]:
    return [option for action in parser._actions for option in action.option_strings if option.startswith("--")]


def _of_makefile() -> tuple[list[str], list[str]]:
    """(targets with a help text, variables that are read); none of an installed package, which has no Makefile."""
    if not MAKEFILE.is_file():
        return [], []
    text = MAKEFILE.read_text(encoding="utf-8")
    return re.findall(r"^([a-z][a-z0-9-]*):.*## ", text, re.MULTILINE), sorted(set(re.findall(r"\$\(([A-Z]+)\)", text)))
