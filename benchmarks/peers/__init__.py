"""The peers that are measured side by side: each module serves and calls the same work its own way.

Each has `serve(address)`, which returns once it listens, and `connect(address)`, which returns a
function that makes one call and gives the typed reply. Addresses are "unix:/path" or "tcp:host:port".
"""
