"""The asyncio client: one connection, any number of answers at once.

Rule 1: it offers what the blocking client offers, with the same names.
Rule 2: this file does not know sockets nor the protocol; `aio_channel` and `session` do.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self, Unpack

from qwend.client import loading, options, sessions
from qwend.client.aio_channel import AsyncChannel, AsyncInbox
from qwend.client.aio_stream import AsyncTokenStream
from qwend.client.answering import Answering
from qwend.client.options import Conversation, GenerationOptions, PullOptions
from qwend.client.recovery import RECONNECT_S, Build, Recovery
from qwend.client.sessions import Asking, KeptSession, Result
from qwend.paths import find_socket
from qwend.wire import (
    Chat,
    ClientMessage,
    Complete,
    Done,
    Drain,
    Load,
    Prefill,
    Priority,
    Pull,
    Reload,
    SessionFacts,
    SessionsReply,
    StatusReply,
    Tokenize,
    Unload,
    Welcome,
)


class AsyncClient:
    """A connection to the daemon inside `async with`; its arguments are those of `Client`."""

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        timeout_s: float = 10.0,
        reconnect_s: float = RECONNECT_S,
        name: str = "qwend-python",
    ) -> None:
        self._channel = AsyncChannel(find_socket(os.environ, path), timeout_s, name, reconnect_s)

    @property
    def welcome(self) -> Welcome:
        """What the daemon said of itself: model, context, capabilities."""
        return self._channel.welcome

    async def chat(
        self,
        messages: Conversation,
        *,
        thinking: bool | None = None,
        priority: Priority | None = None,
        session: str | None = None,
        **generation: Unpack[GenerationOptions],
    ) -> AsyncTokenStream:
        """Ask for the next message of a conversation.

        thinking: whether the model is to reason before it answers; None: as the daemon has it.
        priority: "background" lets others go first; None is "interactive".
        session: name of a conversation that the daemon keeps; `messages` is only what is new then.
        """
        sessions.check_kept(session, self.welcome)
        chosen = options.generation(**generation)
        given = options.conversation(messages)
        return await self._open_answer(
            lambda id_: Chat(id_, given, chosen, thinking, priority, session), chosen.credit
        )

    async def complete(
        self,
        prompt: str | Sequence[int],
        *,
        priority: Priority | None = None,
        **generation: Unpack[GenerationOptions],
    ) -> AsyncTokenStream:
        """Ask for the continuation of a text or of token ids, without a chat template."""
        chosen = options.generation(**generation)
        given = options.prompt(prompt)
        return await self._open_answer(
            lambda id_: Complete(id_, given, chosen, priority), chosen.credit
        )

    async def prefill(
        self,
        messages: Conversation | None = None,
        *,
        prompt: str | Sequence[int] | None = None,
        partial: bool = False,
        thinking: bool | None = None,
        priority: Priority | None = None,
        session: str | None = None,
    ) -> Done:
        """Have the daemon compute and keep what a later request will begin with.

        partial: the last of `messages` is still being written. thinking: that of the chat to come.
        priority: None is "interactive" with `partial`, else "background". session: as in `chat`.
        """
        stream = await self.start_prefill(
            messages,
            prompt=prompt,
            partial=partial,
            thinking=thinking,
            priority=priority,
            session=session,
        )
        return await stream.wait()

    async def start_prefill(
        self,
        messages: Conversation | None = None,
        *,
        prompt: str | Sequence[int] | None = None,
        partial: bool = False,
        thinking: bool | None = None,
        priority: Priority | None = None,
        session: str | None = None,
    ) -> AsyncTokenStream:
        """`prefill` without waiting for it: the stream has no token, and can be cancelled."""
        sessions.check_kept(session, self.welcome)
        chat = None if messages is None else options.conversation(messages)
        text = None if prompt is None else options.prompt(prompt)
        return await self._open(
            lambda id_: Prefill(id_, chat, text, partial, thinking, priority, session)
        )

    async def tokenize(self, text: str, *, special: bool = False) -> tuple[int, ...]:
        """Return the token ids of `text`; `special` reads control tokens in it as such."""
        stream = await self._open(lambda id_: Tokenize(id_, text, special))
        return (await stream.wait()).tokens or ()

    async def sessions(self) -> tuple[SessionFacts, ...]:
        """Return this user's conversations that the daemon keeps, the oldest first."""
        return await self._ask(sessions.all_sessions())

    async def session(self, name: str) -> KeptSession:
        """Return one of them whole."""
        return await self._ask(sessions.whole_session(name))

    async def rename_session(self, name: str, to: str) -> SessionFacts:
        """Give one another name."""
        return await self._ask(sessions.renamed(name, to))

    async def delete_session(self, name: str) -> SessionFacts:
        """Delete one; return what it was."""
        return await self._ask(sessions.deleted(name))

    async def status(self) -> Mapping[str, object]:
        """Return what the daemon says of its state; docs/protocol.md lists the keys."""
        inbox = AsyncInbox()
        await self._channel.send(self._channel.session.status(inbox))
        reply = await self._channel.receive(inbox, at_once=True)
        assert isinstance(reply, StatusReply)
        return reply.status

    async def ping(self) -> float:
        """Return the seconds until the daemon answered."""
        inbox = AsyncInbox()
        started = time.monotonic()
        await self._channel.send(self._channel.session.ping(inbox))
        await self._channel.receive(inbox, at_once=True)
        return time.monotonic() - started

    async def drain(self) -> None:
        """As an administrator, have the daemon take no new requests until a `reload`."""
        await (await self._open(Drain)).wait()

    async def reload(self) -> None:
        """As an administrator, have the daemon read its configuration, and take requests again.

        Raises: RequestFailed, `invalid_value` if the configuration is bad: it stays as it was.
        """
        await (await self._open(Reload)).wait()

    async def load(self, model: str) -> Done:
        """As an administrator, have the daemon answer with this model from now on.

        model: a name of the daemon's store, or a path on its machine, best an absolute one.
        Raises: RequestFailed, `model_error` if it cannot be used: the one before serves on.
        """
        return await (await self.start_load(model)).wait()

    async def start_load(self, model: str) -> AsyncTokenStream:
        """`load` without waiting for it: its events are Progress, and it can be cancelled."""
        loading.check_served(self.welcome)
        return await self._open(lambda id_: Load(id_, model))

    async def unload(self) -> Done:
        """As an administrator, have the daemon let go of its model once it answers nobody.

        The next request loads it again.
        """
        return await (await self.start_unload()).wait()

    async def start_unload(self) -> AsyncTokenStream:
        """`unload` without waiting for it: as `start_load`."""
        loading.check_served(self.welcome)
        return await self._open(Unload)

    async def pull(self, model: str, **chosen: Unpack[PullOptions]) -> Done:
        """As an administrator, have the daemon fetch a model into its store, for everybody.

        model: what `qwenctl pull` takes, but no path. Its name there is `model` of the answer.
        Raises: RequestFailed, `fetch_failed` if no source gives it: what came is kept.
        """
        return await (await self.start_pull(model, **chosen)).wait()

    async def start_pull(self, model: str, **chosen: Unpack[PullOptions]) -> AsyncTokenStream:
        """`pull` without waiting for it: its events are Progress, and it can be cancelled."""
        return await self._open(lambda id_: Pull(id_, model, **chosen))

    async def close(self) -> None:
        """Close the connection; the daemon cancels what is still open. May be called again."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        await self._channel.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _ask(self, asking: Asking[Result]) -> Result:
        """Put its questions, one after another, and return what it makes of the answers."""
        try:
            question = next(asking)
            while True:
                inbox = AsyncInbox()
                _, data = self._channel.session.request(question, inbox)
                await self._channel.send(data)
                reply = await self._channel.receive(inbox, at_once=True)
                assert isinstance(reply, SessionsReply)
                question = asking.send(reply)
        except StopIteration as end:
            result: Result = end.value
            return result

    async def _open_answer(self, build: Build, window: int | None) -> AsyncTokenStream:
        await self._channel.ensure()
        recovery = Recovery.where_served(self.welcome, build)
        return await self._open(build if recovery is None else recovery.request, window, recovery)

    async def _open(
        self,
        build: Callable[[int], ClientMessage],
        window: int | None = None,
        recovery: Recovery | None = None,
    ) -> AsyncTokenStream:
        await self._channel.ensure()
        inbox = AsyncInbox()
        request_id, data = self._channel.session.request(build, inbox)
        stream = AsyncTokenStream(self._channel, inbox, Answering(request_id, window), recovery)
        await self._channel.send(data)
        return stream
