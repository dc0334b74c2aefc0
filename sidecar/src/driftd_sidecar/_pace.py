"""The pace of the attempts at one address: a refusal to take anything there holds up what is sent there, and nothing else."""

from dataclasses import dataclass

from driftd_sidecar._retry import Retry


@dataclass(slots=True, kw_only=True)
class Pace:
    """`failures` in a row, and when the next attempt may be made, in monotonic seconds.

    Nobody answers (`unanswered`) at no address in particular: then all keep one pace, so that what happened first is
    also told first when somebody answers again.
    """

    failures: int = 0
    not_before: float = 0.0
    told_to_wait: bool = False
    unanswered: bool = False

    def failed(self, retry: Retry, now: float) -> None:
        """The daemon took nothing here."""
        self.failures += 1
        self.told_to_wait = retry.told_by_server
        self.not_before = now + retry.after_seconds
        self.unanswered = False

    def silent(self, retry: Retry, now: float) -> None:
        """The daemon did not answer, here or elsewhere. What it asked for before that still holds."""
        if self.told_to_wait and now < self.not_before:
            return
        self.failed(retry, now)
        self.unanswered = True

    def reached(self) -> None:
        """The daemon answered, here or elsewhere."""
        if self.unanswered:
            self.settled()

    def settled(self) -> None:
        """The batch was taken or refused: the next may go at once."""
        self.failures = 0
        self.not_before = 0.0
        self.told_to_wait = self.unanswered = False

    def hurry(self) -> None:
        """Somebody waits: attempts are made at once, unless the server asked for patience."""
        if not self.told_to_wait:
            self.not_before = 0.0
