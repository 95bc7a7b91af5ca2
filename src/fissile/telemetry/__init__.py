"""What is measured while calls go on: always on, by hand, and cheap enough to stay on.

`aggregate` is PURE. Start reading at `recorder`.
"""
