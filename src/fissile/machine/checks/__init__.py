"""Whether this machine has what Fissile needs. PURE: `facts`, `rules`; SHELL: `gather`. Start reading at `rules`."""
