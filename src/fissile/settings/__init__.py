"""fissile.toml: its schema, what can be wrong with it, and how it is read.

`schema`, `check` and `application` do no I/O; `load` reads the file and the environment. `proposal/` makes a first one
from what `listing` finds in a folder, and `written` writes it. Start reading at `schema`.
"""
