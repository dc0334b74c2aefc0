"""The one root of what this room raises."""


class AlertError(ValueError):
    """A label, rule, matcher, setting or message that cannot work; the text names the field and the fix.

    The text never holds a secret or a receiver's URL.
    """
