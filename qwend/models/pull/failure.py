"""Why an attempt to fetch ended: what may be tried again, and what may not.

Nothing of this leaves the package; `pull` makes a FetchError of what is left at the end.
"""

from __future__ import annotations


class Again(Exception):
    """This attempt is over; another may do better. wait_s: as the server asked for."""

    def __init__(self, why: str, *, wait_s: float | None = None) -> None:
        super().__init__(why)
        self.wait_s = wait_s


class Changed(Exception):
    """What the source gives is not the file that was asked for: look again what it has."""


class Never(Exception):
    """This source will not give it, whatever is tried. code: stable, for programs."""

    def __init__(self, why: str, *, code: str = "fetch_failed") -> None:
        super().__init__(why)
        self.code = code
