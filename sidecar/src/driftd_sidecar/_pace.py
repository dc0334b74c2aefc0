"""The pace of the attempts at one address: a failure there holds up what is sent there, and nothing else."""

from dataclasses import dataclass

from driftd_sidecar._retry import Retry


@dataclass(slots=True, kw_only=True)
class Pace:
    """`failures` in a row, and when the next attempt may be made, in monotonic seconds."""

    failures: int = 0
    not_before: float = 0.0
    told_to_wait: bool = False

    def failed(self, retry: Retry, now: float) -> None:
        self.failures += 1
        self.told_to_wait = retry.told_by_server
        self.not_before = now + retry.after_seconds

    def answered(self) -> None:
        """The batch was taken or refused: the next may go at once."""
        self.failures = 0
        self.told_to_wait = False
        self.not_before = 0.0

    def hurry(self) -> None:
        """Somebody waits: attempts are made at once, unless the server asked for patience."""
        if not self.told_to_wait:
            self.not_before = 0.0
