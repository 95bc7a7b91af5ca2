"""`fissile init`: a first fissile.toml for an application that is there."""

from pathlib import Path

from fissile.cli.arguments import Parser, in_folder

USAGE = "[FOLDER] [OPTIONS]"


def arguments(parser: Parser) -> None:
    """What the command takes."""
    in_folder(parser, place=True)
    parser.flag("--force", help="write over a fissile.toml that is there")
    parser.flag("--print", help="print the file, and write nothing")


def init(folder: Path, force: bool, print: bool) -> None:
    """Look at a folder and write a fissile.toml for it.

    Knows Django, FastAPI, Flask, Litestar, Starlette and others, applications of Fissile's own, Procfile, Compose
    files, Dockerfile and package.json. It runs and imports nothing. What it assumed and what it could not tell
    stands in the file, and is printed.
    """
    from fissile.cli.output import note, say
    from fissile.settings.listing import list_folder
    from fissile.settings.proposal.propose import propose
    from fissile.settings.proposal.render import render, said
    from fissile.settings.written import check_absent, nothing_found, write

    if not print:
        check_absent(folder, force=force)
    proposal = propose(list_folder(folder))
    if proposal.empty:
        raise nothing_found(folder, proposal)
    text = render(proposal)
    if print:
        say(text.rstrip("\n"))
        return
    file = write(folder, text, force=force)
    say(f"{file} is written; `fissile up` starts what it says")
    for line in said(proposal):
        note(line)
