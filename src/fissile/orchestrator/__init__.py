"""PURE. Decides what to do on the machines; `supervisor` does it.

`plan` compares what is desired (altered only by `change`) with what was observed (`replica`) and says
what to do now, each action with its reason. May touch data only: time and chance are arguments.
Start reading at `replica`, then `plan`.
"""
