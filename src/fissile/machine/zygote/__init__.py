"""The zygote: a process that imports an application once, and forks its replicas. It outlives supervisors.

`client` is the supervisor's side, `server` the program itself, `protocol` what they say to each other, `spawn` the
program that starts a replica by exec. Start reading at `protocol`.
"""
