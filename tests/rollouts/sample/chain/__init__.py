"""Three components in a row, each with a version, so that an answer tells which builds made it."""

from chain.back import Back
from chain.front import Front
from chain.middle import Middle
from fissile import Application

app = Application(Front, Middle, Back)
