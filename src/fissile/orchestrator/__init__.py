"""PURE. What should happen to replicas, decided from what is wanted and what was seen.

May touch data only; `now` and randomness are arguments. Start reading at `restart`.
"""
