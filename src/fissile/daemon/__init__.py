"""SHELL. The composition root: the one room that knows every other, and puts an application on its feet.

Commands call it for all that is not asked of a running supervisor. Each module imports what it needs and no more, so
that `logs` and `offline` start at once. Start reading at `foreground`.
"""
