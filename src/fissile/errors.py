"""The base family of errors: whose fault it is, what happened, what to do next.

Every room subclasses these. An error is read by somebody at 3 a.m.: it names the component and
method where it arose (`origin`) and ends with the next step (`remedy`). The call errors are the
only ones that the platform itself raises from a call, and they mean the same in every topology.
"""

from collections.abc import Callable, Sequence

DIRECT_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"


class FissileError(Exception):
    """Base of all errors raised by Fissile.

    Attributes:
        message: What happened.
        remedy: What to do next; may be empty.
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  → {self.remedy}" if self.remedy else self.message


def advises(error: BaseException | None) -> bool:
    """Whether an error, or one that caused it, says what to do next."""
    while error is not None:
        if isinstance(error, FissileError) and error.remedy:
            return True
        error = error.__cause__
    return False


def with_lines(message: str, remedy: str, service: str, lines: Sequence[str]) -> str:
    """An error with the last lines of a service's process; those alone where there is no message."""
    quoted = [f"  the last lines of {service}:", *(f"  | {line}" for line in lines)] if lines else []
    return "\n".join([*([message] if message else []), *quoted, *([f"  → {remedy}"] if remedy else [])])


class ProcessError(FissileError):
    """A process did not come up.

    service: whose it was, or "". last_lines: what it had printed before it ended, the newest last.
    """

    def __init__(self, message: str, *, remedy: str = "", service: str = "", last_lines: Sequence[str] = ()) -> None:
        super().__init__(message, remedy=remedy)
        self.service = service
        self.last_lines = tuple(last_lines)

    def __str__(self) -> str:
        return with_lines(self.message, self.remedy, self.service, self.last_lines)


class StartError(ProcessError):
    """A service never came up, so nothing was left running."""


class ConfigError(FissileError):
    """The configuration (fissile.toml, environment, command line) has mistakes. The operator fixes them."""


class DeclarationError(FissileError):
    """An application is declared wrongly. Its author fixes that.

    Attributes:
        mistakes: Every mistake found, each with its remedy, so one run shows them all.
    """

    def __init__(self, subject: str, mistakes: Sequence[str]) -> None:
        self.mistakes = tuple(mistakes)
        count = "one mistake" if len(self.mistakes) == 1 else f"{len(self.mistakes)} mistakes"
        super().__init__(f"{subject} has {count}:\n" + "\n".join(f"  - {m}" for m in self.mistakes))


class CallError(FissileError):
    """A call did not yield its callee's own answer.

    Attributes:
        origin: The method in which the error arose, as `Component.method`; `""` if unknown.
    """

    code = "call_error"

    def __init__(self, message: str, *, origin: str = "", remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.origin = origin


class Unavailable(CallError):
    """The callee could not be reached, or the connection broke before the answer arrived."""

    code = "unavailable"


class DeadlineExceeded(CallError):
    """The call ran out of time. The callee has been told to stop."""

    code = "deadline_exceeded"


class Overloaded(CallError):
    """The callee's queue is full, and nothing was done.

    Attributes:
        retry_after_seconds: When the callee suggests to try again.
    """

    code = "overloaded"

    def __init__(self, message: str, *, origin: str = "", remedy: str = "", retry_after_seconds: float = 1.0) -> None:
        super().__init__(message, origin=origin, remedy=remedy)
        self.retry_after_seconds = retry_after_seconds


class Cancelled(CallError):
    """The callee gave the call up before it had an answer, because it was drained or stopped."""

    code = "cancelled"


class PermissionDenied(CallError):
    """The caller declares no reference to the callee, or its token does not prove which service it is."""

    code = "permission_denied"


class IncompatibleContract(CallError):
    """Caller and callee were built with different types for the method."""

    code = "incompatible_contract"


class InvalidArgument(CallError):
    """The arguments do not fit the method's types. This is the caller's fault."""

    code = "invalid_argument"


class RemoteError(CallError):
    """The callee raised an exception that it does not declare. This is the callee's fault.

    Every topology raises it alike, so a split never changes what a caller can catch.

    Attributes:
        type_name: The qualified name of the callee's exception.
    """

    code = "remote_error"

    def __init__(
        self,
        message: str,
        *,
        origin: str = "",
        remedy: str = "",
        type_name: str = "",
        traceback_text: str | Callable[[], str] = "",
    ) -> None:
        super().__init__(message, origin=origin, remedy=remedy)
        self.type_name = type_name
        self.traceback_source = traceback_text

    @property
    def traceback_text(self) -> str:
        """The callee's own traceback. It is formatted on first access."""
        if not isinstance(self.traceback_source, str):
            self.traceback_source = self.traceback_source()
        return self.traceback_source

    @traceback_text.setter
    def traceback_text(self, text: str) -> None:
        self.traceback_source = text

    @property
    def __notes__(self) -> list[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What Python writes below the error wherever it writes its traceback: the callee's own comes last.

        Without what Python writes anyway: causes, and all of it where caller and callee are in one process.
        """
        own: list[str] = vars(self).get("__notes__", [])
        text = self.traceback_text.rstrip()
        if self.__cause__ is not None:
            text = text.rpartition(DIRECT_CAUSE)[2]
        if not text or text[text.rfind("  File ") :].startswith(_last_place(self)):
            return own
        return [*own, f"The traceback of its callee:\n{text}"]

    @__notes__.setter
    def __notes__(self, notes: list[str]) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        vars(self)["__notes__"] = list(notes)

    def add_note(self, note: str) -> None:
        """Add a note, as to any exception."""
        vars(self).setdefault("__notes__", []).append(note)

    def __str__(self) -> str:
        where = f" in {self.origin}" if self.origin else ""
        return f"{self.type_name}{where}: {self.message}"


def _last_place(error: BaseException) -> str:
    """Where an exception was raised, as tracebacks write it."""
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    return "-" if step is None else f'  File "{step.tb_frame.f_code.co_filename}", line {step.tb_lineno}, in '


CALL_ERRORS: dict[str, type[CallError]] = {
    kind.code: kind
    for kind in (
        Unavailable,
        DeadlineExceeded,
        Overloaded,
        Cancelled,
        PermissionDenied,
        IncompatibleContract,
        InvalidArgument,
        RemoteError,
    )
}
