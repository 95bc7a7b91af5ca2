"""SHELL. One process of an application: its components started, served and stopped.

May touch the event loop, sockets and signals; knows nothing of who started the process. Start reading
at `host` (components in order), then `replica` (a host that serves one service) and `monolith` (a host
of everything). `control` is all that a replica and its supervisor say to each other.
"""
