"""SHELL. HTTP/JSON and an event stream: the one way in for people and their tools.

May touch the network and everything below it. Start reading at `app`.
"""
