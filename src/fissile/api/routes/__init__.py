"""SHELL. The operations of the API, one module for each kind of thing that they concern; no module knows another.

Each has the lines of its table (OPERATIONS) and a class whose methods, of the same names, carry them out on a
supervisor. Start reading at `services`.
"""
