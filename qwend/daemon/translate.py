"""From the engine's events to the protocol's messages. Owns nothing and decides nothing."""

from __future__ import annotations

from typing import cast

from qwend.engine.events import Event, Failed, Finished, Prefilling, Produced, Queued, Started
from qwend.wire import limits
from qwend.wire.codes import ErrorCode
from qwend.wire.messages import DaemonMessage
from qwend.wire.notices import Error
from qwend.wire.replies import Accepted, Done, FinishReason, Progress, Token
from qwend.wire.usage import Timings, Usage


def as_message(client_id: int, event: Event, energy_j: float | None = None) -> DaemonMessage | None:
    """What the client is told of the event, under the id it chose; None: not its business.

    energy_j: joules of a request that has finished, if they are known.
    """
    match event:
        case Queued():
            return Progress(client_id, "queued", 0, event.ahead)
        case Started():
            return Accepted(client_id, event.prompt_tokens, event.cached_tokens)
        case Prefilling():
            return Progress(client_id, "prefill", event.done, event.total)
        case Produced():
            return Token(client_id, event.index, event.ids, event.text, event.reasoning)
        case Finished():
            return _done(client_id, event, energy_j)
        case Failed():
            return Error(event.code, event.message, id=client_id)
    return None


def _done(client_id: int, event: Finished, energy_j: float | None) -> Done | Error:
    usage = Usage(event.prompt_tokens, event.cached_tokens, event.completion_tokens, energy_j)
    reason = cast(FinishReason, event.finish_reason)
    if event.tokens is not None:
        if len(event.tokens) > limits.ARRAY_ENTRIES:
            return Error(
                ErrorCode.INVALID_VALUE,
                f"the text is {len(event.tokens):,} tokens, and one message can carry "
                f"{limits.ARRAY_ENTRIES:,}: send it in parts",
                id=client_id,
            )
        return Done(client_id, reason, usage, tokens=event.tokens)
    timings = Timings(
        queue_s=event.queue_s,
        prefill_s=event.prefill_s,
        ttft_s=event.ttft_s,
        decode_s=event.decode_s,
        itl_p50_s=event.itl_p50_s,
        itl_max_s=event.itl_max_s,
    )
    return Done(client_id, reason, usage, timings, seed=event.seed)
