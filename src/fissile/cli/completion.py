"""`fissile completion`: what makes a shell complete commands, options and services; and what it then asks."""

from collections.abc import Sequence
from pathlib import Path

from fissile.cli.arguments import Parser
from fissile.cli.commands import GROUPS, module_of, named, parser_of, within
from fissile.errors import ConfigError

SHELLS = ("bash", "zsh", "fish")
USAGE = "SHELL"
# Each hands over the words before the one that is being written. What it begins with is left to the shell.
_BASH = """_fissile() {
    local IFS=$'\\n'
    COMPREPLY=($(compgen -W "$(fissile complete "${COMP_WORDS[@]:1:COMP_CWORD-1}" 2>/dev/null)" -- "$2"))
}
complete -o default -F _fissile fissile"""
SCRIPTS = {
    "bash": _BASH,
    "zsh": f"autoload -U +X bashcompinit && bashcompinit\n{_BASH}",
    "fish": "complete -c fissile -a '(set -l words (commandline -opc); fissile complete $words[2..-1] 2>/dev/null)'",
}


def arguments(parser: Parser) -> None:
    """What the command takes."""
    parser.option("shell", choices=SHELLS, metavar="SHELL", help="bash, zsh or fish")


def completion(shell: str) -> None:
    """Print what makes a shell complete commands, options and services.

    Examples:
      bash  echo 'eval "$(fissile completion bash)"' >> ~/.bashrc
      zsh   echo 'eval "$(fissile completion zsh)"' >> ~/.zshrc
      fish  fissile completion fish > ~/.config/fish/completions/fissile.fish
    """
    print(SCRIPTS[shell])


def candidates(words: Sequence[str]) -> list[str]:
    """What may stand after these words of a command line. Nothing where the shell knows better, as of files."""
    try:
        folder, rest = within(words)
        if not rest:
            commands = (name for group in GROUPS.values() for name in group)
            return [*dict.fromkeys(name.partition(" ")[0] for name in commands), "-C", "--version", "--help"]
        name, given = named(rest)
    except ConfigError:
        both = (name.partition(" ") for group in GROUPS.values() for name in group)
        return [second for first, _, second in both if second and [first] == list(words)]
    parser = parser_of(name, module_of(name))
    last = next((one for one in parser.actions() if given and given[-1] in one.option_strings), None)
    if last is not None and last.nargs != 0:
        return list(last.choices or ())
    arguments = [one for one in parser.actions() if not one.option_strings]
    choices = [*map(str, arguments[0].choices or ())] if arguments else []
    if any(one.dest == "service" for one in arguments):
        choices += _services(folder)
    return [*choices, *parser.known_options(), "--help"]


def _services(folder: Path) -> list[str]:
    """Services that run, and their components."""
    from fissile.api.discovery import read_endpoints

    try:
        services = read_endpoints(folder).services
    except ConfigError:
        return []
    return [*services, *(component for one in services.values() for component in one.components)]
