"""Logging to standard error: with journald's level prefixes under systemd, plain elsewhere.

No prompt or answer text is logged at any level.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping

# sd-daemon(3): "<N>" at the beginning of a line is its syslog level.
_SYSLOG_LEVELS = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}


class _JournalFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        level = f"<{_SYSLOG_LEVELS.get(record.levelno, 6)}>"
        return level + super().format(record).replace("\n", f"\n{level}")


def set_up_logging(level: str, environ: Mapping[str, str]) -> None:
    handler = logging.StreamHandler(sys.stderr)
    if environ.get("JOURNAL_STREAM"):
        handler.setFormatter(_JournalFormatter("%(message)s"))
    else:
        handler.setFormatter(logging.Formatter("qwend %(levelname)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
