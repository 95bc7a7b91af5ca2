"""SHELL. One Linux machine: processes, sockets, limits, walls, and what programs print.

May touch processes, sockets, files and signals. It knows no application: its callers say what to run, and within which
limits. Start reading at `limits`. By subject:

- `zygote` (makes processes);
- `limits`, `walls` (PURE: decides) and `confine` (builds them, with `landlock`, `seccomp` and `warden`);
- `procfs` and `pidfd` (looking at processes), `process_marks`, `leftover_processes` and `orphans` (ending them);
- `spools`, `log_lines`, `logfiles` and `logreader` (output in the background), `output` (on a terminal);
- `sockets`, `peers` and `port_owners`.
"""
