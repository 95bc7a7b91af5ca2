"""SHELL. HTTP/JSON and an event stream: the one way in for people and their tools.

PURE: `schema`, every request and answer as a struct. `client` speaks to a supervisor through it, `server` answers.
May touch the network and everything below it. Start reading at `schema`.
"""
