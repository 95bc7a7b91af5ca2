"""PURE. The protocol between services: bytes in, events out; no I/O.

May touch: bytes and data. Start reading at `frames` (what is on the wire), then `connection` (what
each side may send when), whose tables in `state` are the one place where a transition is allowed.
"""
