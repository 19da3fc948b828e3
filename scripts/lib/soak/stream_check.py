"""Whether one request's messages are what the protocol and the oracle allow.

Owns the rules of docs/protocol.md ("Order of a request") and the comparison with the known answer.
Knows nothing of connections or of faults: a stream that was disturbed must be right all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .oracle import Answer

ENDINGS = ("done", "error")
# What the daemon may say between two tokens: that it starts over with another engine.
RECOVERING = "recovering"


class StreamCheck:
    """Give it every message of one request, in order; `faults` says what was wrong.

    answer: what is right; None: nobody knows (a sampled answer), then only the order is checked.
    most: the request's max_tokens.
    """

    def __init__(self, answer: Answer | None, most: int) -> None:
        self.faults: list[str] = []
        self.ids: list[int] = []
        self.text = ""
        self.accepted = 0
        self.recoveries = 0
        self.end: Mapping[str, Any] | None = None
        self._resumed = False
        self._answer = answer
        self._most = most

    @property
    def how(self) -> str:
        """`done:stop`, `error:busy`, ...; `open` if it has not ended."""
        if self.end is None:
            return "open"
        if self.end["op"] == "done":
            return f"done:{self.end['finish_reason']}"
        return f"error:{self.end['code']}"

    def resumed(self) -> None:
        """Its client has asked on another connection: it is accepted there once more."""
        self.accepted = 0
        self._resumed = True

    def begin_anew(self) -> None:
        """The library had to ask again: what was read no longer counts."""
        self.ids, self.text, self.accepted = [], "", 0

    def feed(self, message: Mapping[str, Any]) -> None:
        op = message["op"]
        if self.end is not None:
            self._fault(f"{op} after the end ({self.how})")
            return
        if op == "accepted":
            self._accepted()
        elif op == "progress":
            self._progress(message)
        elif op == "token":
            self._token(message)
        elif op in ENDINGS:
            self.end = message
            if op == "done":
                self._done(message)
        else:
            self._fault(f"{op} is no message of a request")

    def _accepted(self) -> None:
        self.accepted += 1
        if self.accepted > 1:
            self._fault("accepted twice")
        if self.ids and not self._resumed:
            self._fault("accepted after a token")

    def _progress(self, message: Mapping[str, Any]) -> None:
        recovering = message["stage"] == RECOVERING
        self.recoveries += recovering
        # What follows a recovery may tell of the prompt again.
        if self.ids and not (self.recoveries or self._resumed):
            self._fault(f"progress ({message['stage']}) after {len(self.ids)} tokens")

    def _token(self, message: Mapping[str, Any]) -> None:
        index, ids = message["index"], message["ids"]
        if index < len(self.ids):
            self._fault(f"index {index} after {len(self.ids)} tokens: repeated")
        elif index > len(self.ids):
            self._fault(f"index {index} after {len(self.ids)} tokens: a gap")
        if not self.accepted:
            self._fault("a token before accepted")
        self.ids.extend(ids)
        self.text += message["text"]
        if len(self.ids) > self._most:
            self._fault(f"{len(self.ids)} tokens of at most {self._most}")
        if self._answer is not None:
            self._compare(self._answer, index, ids)

    def _compare(self, answer: Answer, index: int, ids: list[int]) -> None:
        right = list(answer.ids[index : index + len(ids)])
        if list(ids) != right:
            self._fault(f"tokens {list(ids)} at {index} instead of {right}")
        if not answer.text.startswith(self.text):
            self._fault(f"text {self.text[-40:]!r} is not that of the answer")

    def _done(self, done: Mapping[str, Any]) -> None:
        counted = done["usage"]["completion_tokens"]
        if counted != len(self.ids):
            self._fault(f"done counts {counted} tokens, and {len(self.ids)} came")
        reason = done["finish_reason"]
        if self._answer is None or reason not in ("stop", "length"):
            return
        if reason != self._answer.finish:
            self._fault(f"ended with {reason} instead of {self._answer.finish}")
        if len(self.ids) != len(self._answer.ids):
            self._fault(f"{len(self.ids)} tokens instead of {len(self._answer.ids)}")
        if not self.text.startswith(self._answer.text):
            self._fault(f"the text ended early: {self.text[-40:]!r}")

    def _fault(self, what: str) -> None:
        # The first says it; a thousand that follow from it say nothing more.
        if len(self.faults) < 5:
            self.faults.append(what)
