"""What a simulated world that breaks a promise ends with."""


class Broken(AssertionError):
    """What must never be so, is so."""
