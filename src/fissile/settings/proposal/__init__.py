"""PURE. A first fissile.toml for a folder, with what it assumes and what it cannot tell.

`applications` reads Python source, `commands` reads command lines, `compose` and `yaml` read Compose files; none of
them runs anything. Start reading at `propose`.
"""
