"""The zygote: a process that imports an application once, and forks its replicas. It outlives supervisors.

Start reading at `protocol`, the messages. On the supervisor's side `client` is what outlasts a zygote, and `session`
the conversation with one. The program itself is `server`; `load` imports and checks, `child` is the way from the fork
to the application's first line, `records` remembers the replicas. `spawn` starts a replica by exec.
"""
