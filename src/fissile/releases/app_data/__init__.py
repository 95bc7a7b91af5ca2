"""SHELL. What belongs to the application and to no release: data, which outlives every release.

Code runs from a copy. Beside it, the copy has links to all that is not code (`links`), and whatever a program makes in
a copy is moved to the application's folder and linked (`writeback`). At every instant both paths lead to the same file.

`writeback` decides the order of steps; `scan` finds what programs have done, `mover` moves it by the atomic steps of
`moves`. `index` remembers which paths are data, `copy_state` what a copy was like at the last scan, and `sqlite_files`
which files belong to one database. Start reading at `writeback`.
"""
