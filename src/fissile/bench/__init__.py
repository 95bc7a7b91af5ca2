"""How figures are compared and shown.

`stats` and `report` are PURE: numbers in, numbers or text out. Start reading at `report` (what one
figure is, and when its goal holds). The programs that measure are in `benchmarks/` beside the
package: they need the peers' libraries, which no user of Fissile has to install.
"""
