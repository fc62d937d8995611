"""Why the service does not do what it is asked. The API maps each to the error code that clients know."""

from __future__ import annotations

from engine.service.wire_status import WireStatus


class Refusal(Exception):
    """A call that is not carried out. reason: one sentence for the client, never with a password."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class TaskUnknown(Refusal):
    """No such task in this project."""


class JobUnknown(Refusal):
    """No such job in this project."""


class InstanceUnknown(Refusal):
    """No registered instance has this id."""


class StateForbids(Refusal):
    """The call is not allowed in the task's status."""

    def __init__(self, status: WireStatus, reason: str = "") -> None:
        super().__init__(reason)
        self.status = status


class PairAtWork(Refusal):
    """Another task migrates the same source into the same target at this moment."""


class BadParameter(Refusal):
    """A field that cannot be used. name: as the client wrote it, dots between the levels."""

    def __init__(self, name: str, reason: str = "") -> None:
        super().__init__(reason)
        self.name = name


class PasswordRefused(Refusal):
    """An instance refused the password (or the absence of one)."""


class NotConfiguredHere(Refusal):
    """The call needs something that the operator of this service has not set up."""


class StoreFailed(Exception):
    """The store did not take or give what it should; the call may be repeated."""
