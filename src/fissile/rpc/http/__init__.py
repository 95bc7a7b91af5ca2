"""SHELL. Calls over HTTP/JSON: the gateway that serves components, and the client for services in other languages."""
