"""PURE. Static slicing: the definitions that a service reaches, what running them may alter, and the files they read.

`syntax` parses modules, `effects` says which statements alter more than their own names, and `reachability` follows
references through both; `contents` is what a slice consists of. `read_analysis` finds the files that a statement may
read: `read_visitor` walks it, `evaluation` computes paths, by `names` and `scopes`, `provenance` traces those that
cannot be computed, and `paths` matches them to files. `imports` does all of that for code that does not know Fissile.
Start reading at `reachability`.
"""
