"""`python -m fissile` is the command `fissile`."""

from fissile.cli import main

main()
