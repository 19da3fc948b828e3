"""How a sequence that starts comes by what others have computed already, or are computing now.

Three ways, the one that saves most is taken: share the cells of a running sequence, wait for one
that is computing the same prefix right now and join it, or restore a copy from the prefix cache.
Nobody reuses what belongs to another uid, except what is public.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

from qwend.engine.backend import Backend
from qwend.engine.cell_sharing import used_cells
from qwend.engine.prefix_cache import MIN_TOKENS, Hit, PrefixCache, common_prefix
from qwend.engine.request import PUBLIC_UID
from qwend.engine.sequence import Sequence


class PrefixReuse:
    """Fills the first cells of a sequence that was just given its seq_id."""

    def __init__(self, backend: Backend, prefix_cache: PrefixCache) -> None:
        self._backend = backend
        self._facts = backend.facts
        self._prefix_cache = prefix_cache

    def begin(self, sequence: Sequence, running: SequenceOf[Sequence], most: int) -> None:
        """Start `sequence` from the longest prefix there is, at most `most` tokens of it.

        running: all that run beside it. Sets `computed`, `source`, `shared` and `joins`.
        """
        tokens = sequence.tokens[:most]
        source, common = self._closest(sequence, tokens, running)
        hit = self._prefix_cache.lookup(sequence.request.uid, tokens)
        found = 0 if hit is None else hit.count
        if source is not None and common >= found:
            self._follow(sequence, source, common)
        elif hit is not None:
            sequence.reuse(self._restore(sequence, hit, running))

    def join(self, sequence: Sequence) -> None:
        """Take over the common cells if they are all computed by now."""
        if sequence.source is not None and sequence.ready_to_join:
            self._share(sequence, sequence.source, sequence.shared)

    def take_what_is_there(self, heir: Sequence, leaving: Sequence) -> None:
        """The source of a sequence that waits to join leaves: go on from what it has computed."""
        common = common_prefix(leaving.tokens, heir.tokens)
        self._share(heir, leaving, min(leaving.computed, common, _reusable(heir)))

    def _share(self, sequence: Sequence, source: Sequence, count: int) -> None:
        if count > 0:
            self._backend.share(source.seq_id, sequence.seq_id, count)
        sequence.joins = False
        sequence.reuse(count)

    def _follow(self, sequence: Sequence, source: Sequence, common: int) -> None:
        if source.computed < common:
            # An opening serves at once or not at all: who waits computes its last token itself.
            common = min(common, _reusable(sequence))
        sequence.source, sequence.shared = source, common
        sequence.joins = True
        self.join(sequence)

    def _closest(
        self, sequence: Sequence, tokens: tuple[int, ...], running: SequenceOf[Sequence]
    ) -> tuple[Sequence | None, int]:
        """Who has, or will soon have, the most leading tokens of these."""
        best, most = None, MIN_TOKENS - 1
        for other in running if self._facts.can_trim else ():
            if other.request.uid not in (sequence.request.uid, PUBLIC_UID):
                continue
            # The last token of a prompt may wait for credit, and is not worth waiting for.
            sure = max(other.computed, other.known - 1)
            count = min(sure, common_prefix(other.tokens, tokens))
            if count > most:
                best, most = other, count
        return best, most

    def _restore(self, sequence: Sequence, hit: Hit, running: SequenceOf[Sequence]) -> int:
        """Fill the sequence's cells from a copy; return how many tokens of it could be kept."""
        length = len(hit.entry.tokens)
        whole = hit.count == length
        if not whole and not self._facts.can_trim:
            return 0
        # The copy comes back whole before it is cut to size, and must fit for that moment.
        if used_cells(running) + length > self._facts.cells:
            return 0
        blob = self._prefix_cache.load(hit.entry)
        if blob is None or not self._backend.restore(sequence.seq_id, blob):
            self._prefix_cache.forget(hit.entry)
            return 0
        if not whole:
            self._backend.trim(sequence.seq_id, hit.count)
        return hit.count


def _reusable(sequence: Sequence) -> int:
    """Known tokens that need no step of its own: the last one is computed for its logits."""
    return sequence.known - 1 if sequence.wants_logits else sequence.known
