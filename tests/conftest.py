"""Of all tests."""

from hypothesis import settings

# On a machine that others use too, how long one example takes says nothing of the code.
settings.register_profile("fissile", deadline=None)
settings.load_profile("fissile")
