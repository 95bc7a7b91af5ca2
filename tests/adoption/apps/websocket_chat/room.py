from pathlib import Path


def welcome(room):
    return Path("welcome.txt").read_text().format(room=room, mood="friendly")
