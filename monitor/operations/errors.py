"""Why an operation was not done."""


class OperationError(Exception):
    """What could not be done, in words for the operator; nothing was changed."""


class NotKnown(OperationError):
    """What was named does not exist."""


class Invalid(OperationError):
    """What was asked for makes no sense; `pointer` is the place in the request (RFC 6901), '' for the whole."""

    def __init__(self, detail: str, pointer: str = "") -> None:
        super().__init__(detail)
        self.pointer = pointer


class Conflicting(OperationError):
    """It makes sense, but not in the state that things are in."""
