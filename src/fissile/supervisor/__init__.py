"""SHELL. Runs the services of an application on one machine.

May touch processes, sockets and files. Start reading at `supervisor` (slots and their replicas), then
`zygote` (where replicas come from) and `sockets` (the state folder).
"""
