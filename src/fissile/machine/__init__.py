"""SHELL. One Linux machine: processes, sockets, limits, walls, and what programs print.

May touch processes, sockets, files and signals. It decides nothing and knows no application: whoever uses it says what
to run, and within which limits. Start reading at `limits`, then `walls` (PURE: decides) with `confine` (builds them),
`sockets`, `procfs` (what `/proc` says), `spools` with `logfiles` (output), and `zygote` (makes processes).
"""
