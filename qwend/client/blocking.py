"""The blocking client: one connection, used by one thread at a time, any number of open answers.

Rule 1: while one answer is read, what comes for the others waits in their inboxes.
Rule 2: this file does not know sockets nor the protocol; `channel` and `session` do.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from types import TracebackType
from typing import Self, Unpack

from qwend.client import loading, options, sessions
from qwend.client.answering import Answering
from qwend.client.channel import Channel
from qwend.client.errors import ConnectionLost
from qwend.client.options import Conversation, GenerationOptions, PullOptions
from qwend.client.recovery import RECONNECT_S, Build, Recovery
from qwend.client.session import Inbox
from qwend.client.sessions import Asking, KeptSession, Result
from qwend.client.stream import TokenStream
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


class Client:
    """A connection to the daemon, open from construction to `close`.

    path: the socket; None finds it as `qwenctl` does.
    reconnect_s: how long it is tried to connect again when the connection is lost while an answer
    is read, or before the next request. The answer then goes on where it was; only if the daemon
    knows nothing of it any more is it asked again, and `AskedAgain` among the events tells so.
    timeout_s: for connecting, and for each answer that the daemon can give at once (welcome,
    status, ping). Answers of the model are not limited here: give `deadline_s`.

    Raises: DaemonUnreachable, PermissionDenied, or RequestFailed if the daemon is too busy.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        timeout_s: float = 10.0,
        reconnect_s: float = RECONNECT_S,
        name: str = "qwend-python",
    ) -> None:
        self._channel = Channel(find_socket(os.environ, path), timeout_s, name, reconnect_s)

    @property
    def welcome(self) -> Welcome:
        """What the daemon said of itself: model, context, capabilities."""
        return self._channel.welcome

    def chat(
        self,
        messages: Conversation,
        *,
        thinking: bool | None = None,
        priority: Priority | None = None,
        session: str | None = None,
        **generation: Unpack[GenerationOptions],
    ) -> TokenStream:
        """Ask for the next message of a conversation.

        thinking: whether the model is to reason before it answers; None: as the daemon has it.
        priority: "background" lets others go first; None is "interactive".
        session: name of a conversation that the daemon keeps; `messages` is only what is new then.
        """
        sessions.check_kept(session, self.welcome)
        chosen = options.generation(**generation)
        given = options.conversation(messages)
        return self._open_answer(
            lambda id_: Chat(id_, given, chosen, thinking, priority, session), chosen.credit
        )

    def complete(
        self,
        prompt: str | Sequence[int],
        *,
        priority: Priority | None = None,
        **generation: Unpack[GenerationOptions],
    ) -> TokenStream:
        """Ask for the continuation of a text or of token ids, without a chat template."""
        chosen = options.generation(**generation)
        given = options.prompt(prompt)
        return self._open_answer(lambda id_: Complete(id_, given, chosen, priority), chosen.credit)

    def prefill(
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
        stream = self.start_prefill(
            messages,
            prompt=prompt,
            partial=partial,
            thinking=thinking,
            priority=priority,
            session=session,
        )
        return stream.wait()

    def start_prefill(
        self,
        messages: Conversation | None = None,
        *,
        prompt: str | Sequence[int] | None = None,
        partial: bool = False,
        thinking: bool | None = None,
        priority: Priority | None = None,
        session: str | None = None,
    ) -> TokenStream:
        """`prefill` without waiting for it: the stream has no token, and can be cancelled."""
        sessions.check_kept(session, self.welcome)
        chat = None if messages is None else options.conversation(messages)
        text = None if prompt is None else options.prompt(prompt)
        return self._open(
            lambda id_: Prefill(id_, chat, text, partial, thinking, priority, session)
        )

    def tokenize(self, text: str, *, special: bool = False) -> tuple[int, ...]:
        """Return the token ids of `text`; `special` reads control tokens in it as such."""
        return self._open(lambda id_: Tokenize(id_, text, special)).wait().tokens or ()

    def sessions(self) -> tuple[SessionFacts, ...]:
        """Return this user's conversations that the daemon keeps, the oldest first."""
        return self._ask(sessions.all_sessions())

    def session(self, name: str) -> KeptSession:
        """Return one of them whole."""
        return self._ask(sessions.whole_session(name))

    def rename_session(self, name: str, to: str) -> SessionFacts:
        """Give one another name."""
        return self._ask(sessions.renamed(name, to))

    def delete_session(self, name: str) -> SessionFacts:
        """Delete one; return what it was."""
        return self._ask(sessions.deleted(name))

    def status(self) -> Mapping[str, object]:
        """Return what the daemon says of its state; docs/protocol.md lists the keys."""
        inbox = Inbox()
        self._channel.send(self._channel.session.status(inbox))
        reply = self._channel.receive(inbox, at_once=True)
        assert isinstance(reply, StatusReply)
        return reply.status

    def ping(self) -> float:
        """Return the seconds until the daemon answered."""
        inbox = Inbox()
        started = time.monotonic()
        self._channel.send(self._channel.session.ping(inbox))
        self._channel.receive(inbox, at_once=True)
        return time.monotonic() - started

    def drain(self) -> None:
        """As an administrator, have the daemon take no new requests until a `reload`."""
        self._open(Drain).wait()

    def reload(self) -> None:
        """As an administrator, have the daemon read its configuration, and take requests again.

        Raises: RequestFailed, `invalid_value` if the configuration is bad: it stays as it was.
        """
        self._open(Reload).wait()

    def load(self, model: str) -> Done:
        """As an administrator, have the daemon answer with this model from now on.

        model: a name of the daemon's store, or a path on its machine, best an absolute one.
        Raises: RequestFailed, `model_error` if it cannot be used: the one before serves on.
        """
        return self.start_load(model).wait()

    def start_load(self, model: str) -> TokenStream:
        """`load` without waiting for it: its events are Progress, and it can be cancelled."""
        loading.check_served(self.welcome)
        return self._open(lambda id_: Load(id_, model))

    def unload(self) -> Done:
        """As an administrator, have the daemon let go of its model once it answers nobody.

        The next request loads it again.
        """
        return self.start_unload().wait()

    def start_unload(self) -> TokenStream:
        """`unload` without waiting for it: as `start_load`."""
        loading.check_served(self.welcome)
        return self._open(Unload)

    def pull(self, model: str, **chosen: Unpack[PullOptions]) -> Done:
        """As an administrator, have the daemon fetch a model into its store, for everybody.

        model: what `qwenctl pull` takes, but no path. Its name there is `model` of the answer.
        Raises: RequestFailed, `fetch_failed` if no source gives it: what came is kept.
        """
        return self.start_pull(model, **chosen).wait()

    def start_pull(self, model: str, **chosen: Unpack[PullOptions]) -> TokenStream:
        """`pull` without waiting for it: its events are Progress, and it can be cancelled."""
        return self._open(lambda id_: Pull(id_, model, **chosen))

    def close(self) -> None:
        """Close the connection; the daemon cancels what is still open. May be called again."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(self, asking: Asking[Result]) -> Result:
        """Put its questions, one after another, and return what it makes of the answers."""
        try:
            question = next(asking)
            while True:
                inbox = Inbox()
                _, data = self._channel.session.request(question, inbox)
                self._channel.send(data)
                reply = self._channel.receive(inbox, at_once=True)
                assert isinstance(reply, SessionsReply)
                question = asking.send(reply)
        except StopIteration as end:
            result: Result = end.value
            return result

    def _open_answer(self, build: Build, window: int | None) -> TokenStream:
        self._channel.ensure()
        recovery = Recovery.where_served(self.welcome, build)
        return self._open(build if recovery is None else recovery.request, window, recovery)

    def _open(
        self,
        build: Callable[[int], ClientMessage],
        window: int | None = None,
        recovery: Recovery | None = None,
    ) -> TokenStream:
        self._channel.ensure()
        inbox = Inbox()
        request_id, data = self._channel.session.request(build, inbox)
        stream = TokenStream(self._channel, inbox, Answering(request_id, window), recovery)
        with suppress(ConnectionLost) if recovery is not None else nullcontext():
            self._channel.send(data)  # if it is lost by now, reading finds another connection
        return stream
