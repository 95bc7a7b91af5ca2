"""Static slicing: the definitions that a service reaches, what running them may alter, and the files that they read.

`syntax` reads a module, `effects` says what may act when it is imported, `reading` and `paths` which files it opens,
`reachability` puts it together. Start reading at `reachability`.
"""
