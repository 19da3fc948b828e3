"""What the person at the keyboard has to mend; its text is all that they see."""

from __future__ import annotations


class Problem(Exception):
    """Says what is missing and the command that mends it."""
