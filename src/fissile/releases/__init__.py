"""What a release is: which code each service reaches, what makes it new, and the copies that are kept for a rollback.

PURE: `release` (builds, contracts, what differs), `callers`, `packages`, and `slicing` (what source code reaches and
may alter, read without running it). SHELL: `fingerprint` digests a working tree; `listing`, `manifest` and
`snapshot` copy code; `app_data` is what outlives a release; `store` keeps releases, each with a
record (`records`) and a copy (`copies`). Start reading at `release`.
"""
