"""Scheduler: which sequences run, and which rows the next step takes.

Owns the queue, the sequence ids and the reservation of cells. Knows nothing of text or sampling.

A step takes every decode row first and fills up with prefill, as many rows as the measured cost
allows within the ITL budget, so that a long prompt never holds up a running stream. Cells are
reserved at admission for the longest a request can become: a running request never fails for room.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from qwend.engine.backend import Backend
from qwend.engine.batch import Batch, Row
from qwend.engine.prefix_cache import MIN_TOKENS, Hit, PrefixCache, common_prefix
from qwend.engine.request import PUBLIC_UID
from qwend.engine.sequence import Sequence, State
from qwend.engine.step_cost import StepCost
from qwend.errors import EngineBug

# Even when the budget is spent on decode rows, prefill moves on by one tile of the repacked
# kernels (4 rows): otherwise a busy machine would never admit anyone.
MIN_CHUNK_ROWS = 4


class Scheduler:
    """Sequences in two places: `waiting` (no seq_id, no cells) and `running` (both)."""

    def __init__(
        self, backend: Backend, prefix_cache: PrefixCache, cost: StepCost, itl_budget_s: float
    ) -> None:
        self._backend = backend
        self._facts = backend.facts
        self._prefix_cache = prefix_cache
        self._cost = cost
        self._itl_budget_s = itl_budget_s
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        # A step has a row for everyone who decodes, so no more may run than it has rows.
        self._seq_ids = range(min(self._facts.sequences, self._facts.batch_rows))
        self._free_ids = list(reversed(self._seq_ids))

    @property
    def idle(self) -> bool:
        """Nothing to do until someone submits, cancels or grants credit."""
        if self.waiting and self._has_room(self.waiting[0]):
            return False
        return not any(one.ready_prefill or one.ready_to_decode for one in self.running)

    @property
    def reserved_cells(self) -> int:
        return sum(sequence.reserved_cells for sequence in self.running)

    @property
    def used_cells(self) -> int:
        """Cells in use, shared ones counted once for each owner (an upper bound)."""
        return sum(sequence.computed for sequence in self.running)

    def add(self, sequence: Sequence) -> None:
        self.waiting.append(sequence)

    def find(self, request_id: int) -> Sequence | None:
        """The sequence of a request that has not ended."""
        alive = (one for one in self._all() if one.state is not State.FINISHED)
        return next((one for one in alive if one.id == request_id), None)

    def _has_room(self, sequence: Sequence) -> bool:
        """True if the sequence could run at once: a seq_id is free, and cells enough."""
        free = self._facts.cells - self.reserved_cells
        return bool(self._free_ids) and sequence.reserved_cells <= free

    def admit(self, now: float) -> list[Sequence]:
        """Move what fits from waiting to running, oldest first; return the newly admitted.

        Nobody overtakes: a large request at the head waits for room and is never starved by
        small ones behind it.
        """
        admitted: list[Sequence] = []
        while self.waiting and self._has_room(self.waiting[0]):
            sequence = self.waiting.popleft()
            sequence.seq_id = self._free_ids.pop()
            sequence.times.started = now
            self._reuse_prefix(sequence)
            sequence.state = State.PREFILL
            self.running.append(sequence)
            admitted.append(sequence)
        return admitted

    def schedule(self) -> Batch | None:
        """The rows of the next step, or None if no sequence can go on."""
        rows = [
            self._row(sequence, sequence.computed)
            for sequence in self.running
            if sequence.ready_to_decode
        ]
        for sequence, count in self._prefill_shares(len(rows)):
            first = sequence.computed
            rows += [self._row(sequence, at) for at in range(first, first + count)]
        return Batch(tuple(rows)) if rows else None

    def commit(self, batch: Batch) -> list[Sequence]:
        """Record that the batch is in the cells; return the owners of its sampled rows, in order.

        Raises: EngineBug if a row belongs to no running sequence.
        """
        by_seq_id = {sequence.seq_id: sequence for sequence in self.running}
        for row in batch.rows:
            sequence = by_seq_id.get(row.seq_id)
            if sequence is None or sequence.computed != row.position:
                raise EngineBug(f"row at position {row.position} of seq_id {row.seq_id} is astray")
            sequence.computed += 1
        for sequence in self.running:
            if sequence.state is State.PREFILL and not sequence.remaining_prefill:
                sequence.state = State.DECODE
        return [by_seq_id[batch.rows[index].seq_id] for index in batch.sampled_rows]

    def remove(self, sequence: Sequence, *, keep_prefix: bool) -> None:
        """Take a sequence out, wherever it is; its cells and its seq_id are free afterwards.

        keep_prefix: leave what it computed in the prefix cache.
        """
        sequence.state = State.FINISHED
        if sequence.seq_id < 0:
            self.waiting.remove(sequence)
            return
        self.running.remove(sequence)
        if keep_prefix:
            self._park(sequence)
        self._backend.trim(sequence.seq_id, 0)
        self._free_ids.append(sequence.seq_id)
        sequence.seq_id = -1
        if sequence.sampler is not None:
            sequence.sampler.close()
            sequence.sampler = None

    def _all(self) -> Iterator[Sequence]:
        yield from self.running
        yield from self.waiting

    def _row(self, sequence: Sequence, position: int) -> Row:
        last = position == len(sequence.prompt) + len(sequence.answer) - 1
        return Row(
            sequence.token_at(position),
            position,
            sequence.seq_id,
            wants_logits=last and sequence.wants_answer,
        )

    def _prefill_rows(self, decode_rows: int) -> int:
        room = self._facts.batch_rows - decode_rows
        if not decode_rows:
            return room
        within = self._cost.rows_within(self._itl_budget_s, self._facts.batch_rows)
        return min(room, max(within - decode_rows, MIN_CHUNK_ROWS))

    def _prefill_shares(self, decode_rows: int) -> list[tuple[Sequence, int]]:
        """Half to the shortest remaining prefill, the rest by age: short ones start soon, and
        long ones always move."""
        prefilling = [one for one in self.running if one.ready_prefill]
        rows = self._prefill_rows(decode_rows) if prefilling else 0
        if rows <= 0:
            return []
        shortest = min(prefilling, key=lambda one: one.ready_prefill)
        half = rows if len(prefilling) == 1 else max(1, rows // 2)
        shares = {shortest.seq_id: min(half, shortest.ready_prefill)}
        left = rows - shares[shortest.seq_id]
        for sequence in prefilling:
            given = shares.get(sequence.seq_id, 0)
            more = min(left, sequence.ready_prefill - given)
            shares[sequence.seq_id] = given + more
            left -= more
        return [(one, shares[one.seq_id]) for one in prefilling if shares[one.seq_id]]

    def _reuse_prefix(self, sequence: Sequence) -> None:
        """Start from the longest prefix that a running sequence or the cache already has."""
        # The last token is always computed: its logits are what the answer starts from.
        most = len(sequence.prompt) - 1 if sequence.wants_answer else len(sequence.prompt)
        running, shared = self._best_running(sequence)
        hit = self._prefix_cache.lookup(sequence.request.uid, sequence.prompt)
        if running is not None and (hit is None or shared >= hit.count):
            count = min(shared, most)
            self._backend.share(running.seq_id, sequence.seq_id, count)
        elif hit is not None:
            count = self._restore(sequence, hit, min(hit.count, most))
        else:
            return
        sequence.cached = sequence.computed = count

    def _best_running(self, sequence: Sequence) -> tuple[Sequence | None, int]:
        best, most = None, MIN_TOKENS - 1
        for other in self.running if self._facts.can_trim else ():
            if other.request.uid not in (sequence.request.uid, PUBLIC_UID):
                continue
            count = min(other.computed, common_prefix(other.tokens, sequence.prompt))
            if count > most:
                best, most = other, count
        return best, most

    def _restore(self, sequence: Sequence, hit: Hit, count: int) -> int:
        """Fill the sequence's cells from a blob; return how many tokens of it could be kept."""
        length = len(hit.entry.tokens)
        whole = count == length
        if not whole and not self._facts.can_trim:
            return 0
        # The blob comes back whole before it is cut to size, and must fit for that moment.
        if self.used_cells + length > self._facts.cells:
            return 0
        blob = self._prefix_cache.load(hit.entry)
        if blob is None or not self._backend.restore(sequence.seq_id, blob):
            self._prefix_cache.forget(hit.entry)
            return 0
        if not whole:
            self._backend.trim(sequence.seq_id, count)
        return count

    def _park(self, sequence: Sequence) -> None:
        tokens = sequence.tokens[: sequence.computed]
        uid = sequence.request.uid
        if len(tokens) < MIN_TOKENS or not self._prefix_cache.limit_bytes:
            return
        if not self._prefix_cache.covers(uid, tokens):
            self._prefix_cache.store(uid, tokens, self._backend.save(sequence.seq_id))

    def check_integrity(self) -> None:
        """Raise EngineBug if the accounting is wrong; for tests."""
        if self.reserved_cells > self._facts.cells:
            raise EngineBug("more cells reserved than there are")
        taken = [sequence.seq_id for sequence in self.running]
        if sorted(taken + self._free_ids) != list(self._seq_ids):
            raise EngineBug("a seq_id has two owners, or none")
        if any(one.computed > one.reserved_cells for one in self.running):
            raise EngineBug("a sequence outgrew its reservation")
        if any(one.seq_id >= 0 for one in self.waiting):
            raise EngineBug("a waiting sequence has a seq_id")
