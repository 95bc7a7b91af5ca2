"""SHELL. Runs an application's services on this machine: one process per replica.

May touch processes, sockets, files and signals; decides nothing that `orchestrator` can decide, and
never imports the application: only the zygote does. Start reading at `supervisor`, then `launcher` (makes
a replica's process), `zygote` (the program that forks replicas) with `nursery` (its handle here),
`desk` (what replicas and tools talk to), `state` (the folder .fissile) and `logs`.
"""
