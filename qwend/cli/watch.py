"""`qwenctl status --watch`: the status screen, drawn again each second.

Rule 1: a daemon that goes away is shown as that, and shown again when it is back.
Rule 2: only this file knows rich, which takes longer to import than all of `status`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from rich.live import Live
from rich.text import Text

from qwend.cli.report import describe
from qwend.client import Client
from qwend.errors import QwendError

# Often enough to see an answer being made, seldom enough to cost nothing: a status takes 0.3 ms.
INTERVAL_S = 1.0


class Watched:
    """One connection for all looks; a lost one is made again at the next."""

    def __init__(self, connect: Callable[[], Client]) -> None:
        self._connect = connect
        self._client: Client | None = None

    def look(self) -> Mapping[str, object]:
        """Raises: QwendError if there is no daemon now."""
        try:
            if self._client is None:
                self._client = self._connect()
            return self._client.status()
        except QwendError:
            self.close()
            raise

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()


def watch(connect: Callable[[], Client], screen: Callable[[Mapping[str, object]], str]) -> None:
    """Draw until Ctrl-C. screen: the status as text, with colours as the terminal has them."""
    watched = Watched(connect)
    try:
        with Live(Text(), auto_refresh=False, transient=False) as live:
            while True:
                live.update(Text.from_ansi(_shown(watched, screen)), refresh=True)
                time.sleep(INTERVAL_S)
    except KeyboardInterrupt:
        pass  # the ordinary way to leave
    finally:
        watched.close()


def _shown(watched: Watched, screen: Callable[[Mapping[str, object]], str]) -> str:
    try:
        return screen(watched.look())
    except QwendError as error:
        return f"{'state':<10}{describe(error)}"
