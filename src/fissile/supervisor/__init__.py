"""SHELL. Runs an application's services: one process per replica.

Does what `orchestrator` decides, by means of `machine`; never imports the application: only a zygote does. Start
reading at `supervisor`, then `launcher` (makes a replica's process), `control_server` (what replicas and tools talk
to) and `state` (the folder .fissile).
"""
