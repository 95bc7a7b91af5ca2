"""PURE. What an application is: components, their interfaces, references, topology, local references.

May touch: classes, types and data; no I/O, no clock, no event loop (they come in as arguments).
Start reading at `interface` (what a class declares), then `graph` (how classes fit together), then
`wiring` (what a caller holds when its callee is in the same process).
"""
