"""SHELL. What was changed and what was seen, on disk: audit trail, history, and the memory of a dead supervisor.

May touch files and its own thread. Start reading at `journal`.
"""
