"""PURE. A whole machine that is not there: the decisions of production, and all that may befall them, by seed.

Reconciler, rollouts, routes, restarts and autoscaler are the code of `orchestrator` itself. Only what they stand on is
simulated: an `Executor`, a journal in memory, a virtual clock, processes, visitors and faults. Tests run thousands of
worlds; whoever plans capacity runs one under a given load. May touch data only: chance is an argument, and time is the
virtual clock's. Start reading at `world`.
"""
