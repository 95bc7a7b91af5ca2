"""SHELL. What was changed and what was seen, on disk: audit trail, history, and the memory of a dead supervisor.

May touch files and its own thread. `rows` is how its file is laid out, `sums` how it knows its own damage. Start
reading at `journal`.
"""
