"""What is measured, as scripts that print ratios: machines differ, and this one may be busy."""
