"""What a serving application sends, decoded, checked against the baseline and made countable."""
