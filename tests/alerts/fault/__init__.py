"""Endpoints that fail in every way there is, and what each failure must lead to."""
