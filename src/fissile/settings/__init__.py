"""fissile.toml: its schema, what can be wrong with it, and how it is read.

`schema`, `check` and `application` do no I/O; `load` reads the file and the environment. Start reading at `schema`.
"""
