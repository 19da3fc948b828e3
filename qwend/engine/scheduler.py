"""Scheduler: which sequences run, and which rows the next step takes.

Owns the queue, the sequence ids and the reservation of cells. Knows nothing of text or sampling.

A step takes every decode row first and fills up with prefill, as many rows as the measured cost
allows within the ITL budget, so that a long prompt never holds up a running stream. Cells are
reserved at admission for the longest a request can become: a running request never fails for room.
"""

from __future__ import annotations

from collections.abc import Iterator

from qwend.engine import cell_sharing
from qwend.engine.backend import Backend
from qwend.engine.batch import Batch, Row
from qwend.engine.prefill_plan import prefill_shares
from qwend.engine.prefix_cache import MIN_TOKENS, PrefixCache
from qwend.engine.request import Priority
from qwend.engine.reuse import PrefixReuse
from qwend.engine.sequence import Sequence, State
from qwend.engine.speculation import draft_counts
from qwend.engine.step_cost import StepCost
from qwend.engine.waiting import WaitingQueue, is_background
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
        self._reuse = PrefixReuse(backend, prefix_cache)
        self._cost = cost
        self._itl_budget_s = itl_budget_s
        self.running: list[Sequence] = []
        self.waiting = WaitingQueue(self.running)
        # A step has a row for everyone who decodes, so no more may run than it has rows.
        self._seq_ids = range(min(self._facts.sequences, self._facts.batch_rows))
        self._free_ids = list(reversed(self._seq_ids))

    def idle(self, now: float) -> bool:
        """Nothing to do until someone submits, cancels or grants credit."""
        head = self.waiting.head(now)
        if head is not None and (self._has_room(head) or self._to_preempt(head, now)):
            return False
        return not any(
            one.ready_prefill or one.ready_to_join or one.ready_to_decode for one in self.running
        )

    @property
    def reserved_cells(self) -> int:
        return cell_sharing.reserved_cells(self.running)

    @property
    def used_cells(self) -> int:
        return cell_sharing.used_cells(self.running)

    def add(self, sequence: Sequence) -> None:
        self.waiting.add(sequence)

    def find(self, request_id: int) -> Sequence | None:
        """The sequence of a request that has not ended."""
        alive = (one for one in self._all() if one.state is not State.FINISHED)
        return next((one for one in alive if one.id == request_id), None)

    def admit(self, now: float) -> list[Sequence]:
        """Move what fits from waiting to running; return those that start for the first time.

        Where an interactive request does not fit, background ones make room for it.
        """
        started: list[Sequence] = []
        while (sequence := self.waiting.head(now)) is not None:
            if not self._has_room(sequence):
                victim = self._to_preempt(sequence, now)
                if victim is None:
                    break
                self.preempt(victim, now)
                continue
            self.waiting.remove(sequence)
            background = sequence.request.priority is Priority.BACKGROUND
            sequence.promoted = background and not is_background(sequence, now)
            sequence.admitted = now
            if not sequence.times.started:
                sequence.times.started = now
                started.append(sequence)
            self._start(sequence)
        return started

    def schedule(self, now: float) -> Batch | None:
        """The rows of the next step, or None if no sequence can go on."""
        for sequence in self.running:
            self._reuse.join(sequence)
        decoding = [one for one in self.running if one.ready_to_decode]
        rows: list[Row] = []
        for sequence, drafts in zip(decoding, self._drafts(decoding), strict=True):
            first = sequence.computed
            rows.append(self._row(sequence, first))
            for at, token in enumerate(drafts, first + 1):
                rows.append(Row(token, at, sequence.seq_id, wants_logits=True, draft=True))
        prefilling = any(one.ready_prefill for one in self.running)
        room = self._prefill_rows(len(rows)) if prefilling else 0
        for sequence, count in prefill_shares(self.running, room, now):
            first = sequence.computed
            rows += [self._row(sequence, at) for at in range(first, first + count)]
        return Batch(tuple(rows)) if rows else None

    def commit(self, batch: Batch) -> list[tuple[Sequence, tuple[int, ...]]]:
        """Record that the batch is in the cells; return who is sampled, and at which rows.

        Draft rows are not counted as computed yet: `accept` them one by one, then `settle`.
        Raises: EngineBug if a row belongs to no running sequence.
        """
        by_seq_id = {sequence.seq_id: sequence for sequence in self.running}
        sampled: dict[int, list[int]] = {}
        for index, row in enumerate(batch.rows):
            sequence = by_seq_id.get(row.seq_id)
            guessed = len(sampled.get(row.seq_id, ())) if row.draft else 0
            if sequence is None or sequence.computed + max(0, guessed - 1) != row.position:
                raise EngineBug(f"row at position {row.position} of seq_id {row.seq_id} is astray")
            if not row.draft:
                sequence.computed += 1
            if row.wants_logits:
                sampled.setdefault(row.seq_id, []).append(index)
        for sequence in self.running:
            if sequence.checkpoint and sequence.computed == sequence.checkpoint:
                self._park(sequence)
            # One that has ended already, with its opening's token, must not come to life again.
            prefilled = sequence.state is State.PREFILL and not sequence.remaining_prefill
            if sequence.wants_answer and prefilled:
                sequence.state = State.DECODE
        return [(by_seq_id[seq_id], tuple(rows)) for seq_id, rows in sampled.items()]

    def accept(self, sequence: Sequence) -> None:
        """The next draft token was right: its cell counts."""
        sequence.computed += 1

    def settle(self, sequence: Sequence) -> None:
        """Free the cells of drafts that were wrong."""
        self._backend.trim(sequence.seq_id, sequence.computed)

    def preempt(self, sequence: Sequence, now: float) -> None:
        """Back to the queue, with a copy of its cells in the prefix cache; nothing is lost."""
        self._park(sequence)
        self._leave(sequence)
        sequence.state = State.WAITING
        sequence.computed = 0
        sequence.preempted = True
        sequence.waiting_since = now
        self.waiting.add(sequence)

    def remove(self, sequence: Sequence, *, keep_prefix: bool) -> None:
        """Take a sequence out, wherever it is; its cells and its seq_id are free afterwards.

        keep_prefix: leave what it computed in the prefix cache.
        """
        sequence.state = State.FINISHED
        if sequence.seq_id < 0:
            self.waiting.remove(sequence)
        else:
            if keep_prefix:
                self._park(sequence)
            self._leave(sequence)
        if sequence.sampler is not None:
            sequence.sampler.close()
            sequence.sampler = None

    def _all(self) -> Iterator[Sequence]:
        yield from self.running
        yield from self.waiting

    def _has_room(self, sequence: Sequence) -> bool:
        """True if the sequence could run at once: a seq_id is free, and cells enough."""
        free = self._facts.cells - self.reserved_cells
        return bool(self._free_ids) and sequence.reserved_cells <= free

    def _to_preempt(self, head: Sequence, now: float) -> Sequence | None:
        """The youngest background sequence, if all of them together would make room enough."""
        if is_background(head, now):
            return None
        victims = [one for one in self.running if is_background(one, now)]
        victims = [one for one in victims if one.state is not State.FINISHED]
        needed = head.reserved_cells + cell_sharing.reserved_without(victims, self.running)
        if not victims or needed > self._facts.cells:
            return None
        return max(victims, key=lambda one: (one.times.started, one.id))

    def _start(self, sequence: Sequence) -> None:
        sequence.seq_id = self._free_ids.pop()
        # The last token is computed even if it is in the cache: its logits are what the answer
        # starts from, unless they have been kept.
        last = 1 if sequence.wants_logits and sequence.opening is None else 0
        self._reuse.begin(sequence, self.running, sequence.known - last)
        sequence.state = State.PREFILL
        self.running.append(sequence)

    def _leave(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        heir = cell_sharing.bequeath(sequence, self.running)
        if heir is not None and heir.joins and not sequence.joins:
            self._reuse.take_what_is_there(heir, sequence)
        self._backend.trim(sequence.seq_id, 0)
        self._free_ids.append(sequence.seq_id)
        sequence.seq_id = -1
        sequence.joins = False

    def _park(self, sequence: Sequence) -> None:
        tokens = sequence.tokens[: sequence.computed]
        uid = sequence.request.uid
        if len(tokens) < MIN_TOKENS or not self._prefix_cache.limit_bytes:
            return
        if not self._prefix_cache.covers(uid, tokens):
            self._prefix_cache.store(uid, tokens, self._backend.save(sequence.seq_id))

    def _row(self, sequence: Sequence, position: int) -> Row:
        last = position == sequence.known - 1
        return Row(
            sequence.token_at(position),
            position,
            sequence.seq_id,
            wants_logits=last and sequence.wants_logits,
        )

    def _drafts(self, decoding: list[Sequence]) -> list[tuple[int, ...]]:
        # Everyone who runs may ask for one row of logits in this step, and prompts must move on.
        room = self._facts.batch_rows - len(decoding)
        if any(one.ready_prefill for one in self.running):
            room -= MIN_CHUNK_ROWS
        spare = min(self._facts.outputs - len(self.running), room)
        if not self._facts.can_trim or spare <= 0:
            return [()] * len(decoding)
        return draft_counts(decoding, self._cost, spare, self.used_cells)

    def _prefill_rows(self, decode_rows: int) -> int:
        most = self._facts.batch_rows
        if not decode_rows:
            return most
        within = self._cost.rows_within(
            self._itl_budget_s, most, sampled=decode_rows, used_cells=self.used_cells
        )
        rows = max(within, decode_rows + MIN_CHUNK_ROWS)
        return min(self._cost.filled(rows, most), most) - decode_rows

    def check_integrity(self) -> None:
        """Raise EngineBug if the accounting is wrong; for tests."""
        if self.reserved_cells > self._facts.cells:
            raise EngineBug("more cells reserved than there are")
        taken = [sequence.seq_id for sequence in self.running]
        if sorted(taken + self._free_ids) != list(self._seq_ids):
            raise EngineBug("a seq_id has two owners, or none")
        if any(one.computed > max(one.reserved_cells, one.known) for one in self.running):
            raise EngineBug("a sequence outgrew its reservation")
        if any(one.seq_id >= 0 for one in self.waiting):
            raise EngineBug("a waiting sequence has a seq_id")
        if any(one.source is not None and one.source not in self.running for one in self._all()):
            raise EngineBug("a sequence shares cells with one that has left")
        if any(one.joins and one.source is None for one in self.running):
            raise EngineBug("a sequence waits for nobody")
