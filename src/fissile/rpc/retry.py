"""PURE. Whether a failed call may be tried again.

Only where it is safe (the request was never sent, or the method is idempotent), only within the
deadline, and only within a budget: retries are at most a tenth of the calls, so that a callee in
trouble is not finished off by its callers. The budget is a token bucket as in gRPC's retry
throttling (gRFC A6, https://github.com/grpc/proposal/blob/master/A6-client-retries.md).
"""

BUDGET_RATIO = 0.1
BUDGET_RETRIES_MAX = 10.0
ATTEMPTS_MAX = 3


class RetryBudget:
    """How many retries may be made now. Each call earns a tenth of one: the stub adds it inline, as the hot path."""

    __slots__ = ("retries",)

    def __init__(self) -> None:
        self.retries = BUDGET_RETRIES_MAX

    def __repr__(self) -> str:
        return f"RetryBudget({self.retries:.1f} of {BUDGET_RETRIES_MAX:g})"

    def breaks(self) -> str:
        """What must not be so, in words; "" if all is well. It is looked at where a retry is spent, and nowhere else.

        A budget that is broken is empty afterwards, so that no storm of retries follows from a mistake.
        """
        if 0.0 <= self.retries <= BUDGET_RETRIES_MAX + BUDGET_RATIO:
            return ""
        told, self.retries = f"internal error, please report it: RETRY_BUDGET is {self!r}", 0.0
        return told

    def spend(self) -> bool:
        """Whether one more retry may be made; it is counted if so."""
        if self.retries < 1.0:
            return False
        self.retries -= 1.0
        return True


def may_retry(*, sent: bool, idempotent: bool, attempt: int, remaining_seconds: float, budget: RetryBudget) -> str:
    """ "" if the call may be tried again (the budget is then charged), else the reason why not.

    attempt: how many tries have been made, from 1.
    """
    if sent and not idempotent:
        return "it may have been carried out and is not idempotent"
    if attempt >= ATTEMPTS_MAX:
        return f"it was tried {attempt} times"
    if remaining_seconds <= 0:
        return "its deadline has passed"
    if broken := budget.breaks():
        return broken
    if not budget.spend():
        return "the retry budget (10 % of calls) is used up"
    return ""
