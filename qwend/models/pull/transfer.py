"""Bringing one file over: ask for what is missing, write it down, and try again until it is whole.

Rule 1: what was sealed in the part is never asked for again, where the server can do that. Rule 2:
an attempt that brings nothing new counts; after `attempts` of them in a row it is over, and the
part stays. Rule 3: the file is whole when it has the digest that was asked for, not before.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from qwend.errors import FetchError
from qwend.models.pull.failure import Again, Changed, Never
from qwend.models.pull.part import Part
from qwend.models.pull.source import RemoteFile, check_status
from qwend.models.pull.web import MAX_WAIT_S, Answer, Web
from qwend.models.reference import DIGEST

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_LONGEST_WAIT_S = 30.0
_LEAST_GAIN_BYTES = 64 * 1024
MAGIC = b"GGUF"


@dataclass(frozen=True, slots=True)
class Persistence:
    """attempts: in a row that bring nothing; eight take a minute and a half, or four if silent."""

    attempts: int = 8
    sleep: Callable[[float], None] = time.sleep


@dataclass(slots=True)
class Transfer:
    """progress: told how many bytes of this file are there. notice: told why it tries again.

    cancelled: asked between blocks.
    """

    web: Web
    part: Part
    find: Callable[[], RemoteFile]
    persistence: Persistence = field(default_factory=Persistence)
    progress: Callable[[int], None] = lambda done: None
    notice: Callable[[str], None] = lambda sentence: None
    cancelled: Callable[[], bool] = lambda: False
    _validator: str = ""
    _ranges_work: bool = True
    _asks_if_changed: bool = True

    def run(self, remote: RemoteFile) -> None:
        """Until the part has all bytes of `remote` and its digest.

        Raises: Changed: the source has another file there now; Never; Again: it went on for too
        long; FetchError: the disk, wrong bytes, or it was cancelled. The part is left as it is,
        but wrong bytes are removed.
        """
        fruitless, best = 0, self.part.size_bytes
        while True:
            try:
                self._attempt(remote)
                return self._check(remote)
            except Again as failed:
                # A byte at a time is no way to come to an end.
                gained = self.part.size_bytes - best
                fruitless = 0 if gained >= _LEAST_GAIN_BYTES else fruitless + 1
                best += gained if fruitless == 0 else 0
                if fruitless >= self.persistence.attempts:
                    raise
                self._wait(failed, fruitless)
            except OSError as error:
                raise disk_error(self.part, error) from error

    def _wait(self, failed: Again, fruitless: int) -> None:
        wait_s = min(2.0 ** max(0, fruitless - 1), _LONGEST_WAIT_S) if fruitless else 0.0
        if failed.wait_s is not None:
            if failed.wait_s > MAX_WAIT_S:
                raise Never(f"{failed}, and to come back in {failed.wait_s:.0f} s") from failed
            wait_s = max(wait_s, failed.wait_s)
        self.notice(f"{failed}; trying again" + (f" in {wait_s:.0f} s" if wait_s >= 1 else ""))
        self.persistence.sleep(wait_s)

    def _attempt(self, remote: RemoteFile) -> None:
        part = self.part
        if part.size_bytes == remote.size_bytes or part.sha256 == remote.sha256:
            return
        if remote.size_bytes is not None and part.size_bytes > remote.size_bytes:
            part.restart()
        if not self._ranges_work:
            part.restart()
        offset, headers = part.size_bytes, {}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if self._validator and self._asks_if_changed:
                headers["If-Range"] = self._validator
        with self.web.ask(
            remote.url, headers=headers, secret=remote.secret, plain_http=remote.plain_http
        ) as answer:
            total = self._begin(answer, remote, offset)
            while True:
                if self.cancelled():
                    raise FetchError("the pull was cancelled", code="cancelled")
                data = answer.read()
                if not data:
                    break
                self._write(data, total, answer)
        if total is not None and part.size_bytes < total:
            raise Again(f"{answer.address.host} ended after {part.size_bytes} of {total} bytes")

    def _begin(self, answer: Answer, remote: RemoteFile, offset: int) -> int | None:
        """See whether the answer goes on where the part ends; return the size of the whole file.

        Raises: Again, Changed, Never.
        """
        host = answer.address.host
        if answer.status == 416:
            self._ranges_work = False
            raise Again(f"{host} has nothing behind byte {offset}")
        check_status(answer, "the file")
        if answer.header("Content-Encoding").lower() not in ("", "identity"):
            raise Again(f"{host} packs what should come as it is")
        linked = answer.header("X-Linked-Etag").strip('"').lower()
        if DIGEST.fullmatch(linked) and linked != remote.sha256:
            raise Changed(f"{host} has another file there now")
        if answer.status == 206:
            total = self._range_total(answer, offset)
        else:
            length = answer.header("Content-Length")
            total = int(length) if length.isascii() and length.isdigit() else remote.size_bytes
            if offset:
                self._take_whole(host, remote)
        if total is not None and remote.size_bytes not in (None, total):
            self._look_again(remote)
            raise Again(f"{host} has {total} bytes where {remote.size_bytes} were announced")
        etag = answer.header("ETag")
        # A weak one says that it means the same, not that it is the same (RFC 9110, 8.8.1).
        self._validator = "" if etag.startswith("W/") else etag
        return total

    def _take_whole(self, host: str, remote: RemoteFile) -> None:
        """The answer to a range is the whole file: it has changed, or there are no ranges."""
        if self._validator and self._asks_if_changed:
            self._asks_if_changed = False
            self._look_again(remote)
            raise Again(f"{host} names the same file otherwise")
        self.notice(f"{host} cannot go on in the middle; the file comes from its beginning")
        self.part.restart()

    def _look_again(self, remote: RemoteFile) -> None:
        """Raises: Changed if the source has another file now; Again, Never."""
        if self.find().sha256 != remote.sha256:
            raise Changed("the source has another file there now")

    def _range_total(self, answer: Answer, offset: int) -> int | None:
        host, told = answer.address.host, answer.header("Content-Range")
        found = _CONTENT_RANGE.fullmatch(told)
        if found is None or int(found[1]) != offset:
            self._ranges_work = False
            raise Again(f"{host} gives the range {told!r} and not what is behind byte {offset}")
        return None if found[3] == "*" else int(found[3])

    def _write(self, data: bytes, total: int | None, answer: Answer) -> None:
        host, part = answer.address.host, self.part
        if part.size_bytes == 0 and not data.startswith(MAGIC[: len(data)]):
            raise Again(f"{host} gives something that is no GGUF file; is there a page to log in?")
        if total is not None and part.size_bytes + len(data) > total:
            part.restart()
            raise Again(f"{host} gives more than {total} bytes")
        part.write(data)
        self.progress(part.size_bytes)

    def _check(self, remote: RemoteFile) -> None:
        found = self.part.sha256
        if found == remote.sha256:
            return
        self.part.discard()
        raise FetchError(
            f"the file that came has the SHA-256 {found}, and {remote.sha256} was announced; "
            "it was removed. Try again, or another source with --from",
            code="wrong_bytes",
        )


def disk_error(part: Part, error: OSError) -> FetchError:
    directory = part.path.parent
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FetchError(
            f"{directory} is full; free some space and pull again: it goes on where it ended",
            code="no_space",
        )
    what = os.strerror(error.errno) if error.errno else str(error)
    return FetchError(f"writing to {directory}: {what}", code="disk")
