"""The version of this package: pyproject.toml reads it here, and so does whatever is kept or sent."""

VERSION = "0.1.0"
