"""`python -m fissile`."""

from fissile.cli import main

main()
