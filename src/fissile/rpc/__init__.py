"""Calls between services: the wire's events turned into calls, with deadlines, balancing and retries.

`retry`, `balancer`, `breaker` and `access` are PURE decisions; the others are shells around them and
around `fissile.wire`. Start reading at `stub` (what a caller holds), then `channel` (which replica
gets the call), then `server`. `http` is the same API as HTTP/JSON.
"""
