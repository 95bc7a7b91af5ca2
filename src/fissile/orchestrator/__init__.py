"""PURE. Decides what to do on the machines; `supervisor` does it.

May touch data only: time and chance are arguments. Start reading at `restart`, then `order`.
"""
