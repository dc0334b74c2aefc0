"""What a batch holds: predictions, as rows or counted, or labels, which come later and keep books of their own."""

from enum import StrEnum


class Kind(StrEnum):
    """The value ends the URL that a batch goes to, and is the word for it in the files of the spool."""

    PREDICTIONS = "predictions"
    LABELS = "labels"

    @property
    def unit(self) -> str:
        """What its rows are called."""
        return "labels" if self is Kind.LABELS else "rows"
