"""Hypothesis strategies: every message that the protocol allows, and maps that it may not."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from qwend.wire import (
    Accepted,
    Cancel,
    Chat,
    ChatMessage,
    ClientMessage,
    Complete,
    Credit,
    DaemonMessage,
    Done,
    Drain,
    Error,
    Generation,
    GoAway,
    Hello,
    Load,
    Ping,
    Pong,
    Prefill,
    Progress,
    Pull,
    Reload,
    SessionFacts,
    SessionMessage,
    Sessions,
    SessionsReply,
    Status,
    StatusReply,
    Timings,
    Token,
    Tokenize,
    Unload,
    Usage,
    Welcome,
    limits,
)

# All of Unicode but the surrogates, which have no UTF-8 form.
characters = st.characters(codec="utf-8")
texts = st.text(characters, max_size=40)
names = st.text(characters, max_size=limits.NAME_CHARS)
ids = st.integers(0, limits.ID_MAX)
counts = st.integers(0, limits.COUNT_MAX)
token_ids = st.lists(counts, max_size=20).map(tuple)
seconds = st.floats(0, allow_infinity=False, allow_nan=False)
capabilities = st.lists(names, max_size=4).map(tuple)
prompts = texts | token_ids
conversations = st.lists(
    st.builds(ChatMessage, st.sampled_from(["system", "user", "assistant"]), texts),
    min_size=1,
    max_size=5,
).map(tuple)
stops = texts.filter(lambda stop: 1 <= len(stop.encode()) <= limits.STOP_BYTES)
bias = st.floats(-limits.LOGIT_BIAS_ABS_MAX, limits.LOGIT_BIAS_ABS_MAX)


priorities = st.none() | st.sampled_from(["interactive", "background"])


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


session_names = st.text(
    st.sampled_from("ABCXYZabcxyz0189._-"), min_size=1, max_size=limits.SESSION_NAME_CHARS
).filter(lambda name: name not in (".", ".."))
session_facts = st.builds(SessionFacts, session_names, counts, counts, ids, seconds, seconds)
session_messages = st.builds(
    SessionMessage,
    st.sampled_from(["system", "user", "assistant"]),
    texts,
    seconds,
    maybe(names),
)
generations = st.builds(
    Generation,
    max_tokens=maybe(st.integers(1, limits.COUNT_MAX)),
    temperature=maybe(st.floats(0, limits.TEMPERATURE_MAX)),
    top_k=maybe(counts),
    top_p=maybe(st.floats(0, 1)),
    min_p=maybe(st.floats(0, 1)),
    repeat_penalty=maybe(st.floats(limits.REPEAT_PENALTY_MIN, limits.REPEAT_PENALTY_MAX)),
    repeat_last_n=maybe(st.integers(0, limits.REPEAT_LAST_N_MAX)),
    seed=maybe(st.integers(0, limits.SEED_MAX)),
    stop=maybe(st.lists(stops, max_size=limits.STOP_STRINGS).map(tuple)),
    logit_bias=maybe(st.dictionaries(counts, bias, max_size=8).map(lambda d: tuple(d.items()))),
    ignore_eos=maybe(st.booleans()),
    deadline_s=maybe(st.floats(0, limits.DEADLINE_MAX_S, exclude_min=True)),
    credit=maybe(counts),
)
client_messages: st.SearchStrategy[ClientMessage] = st.one_of(
    st.builds(Hello, client=maybe(names), capabilities=capabilities),
    st.builds(
        Chat,
        ids,
        conversations,
        generations,
        maybe(st.booleans()),
        priorities,
        maybe(session_names),
    ),
    st.builds(Complete, ids, prompts, generations, priorities),
    st.builds(
        Prefill,
        ids,
        messages=conversations,
        partial=st.booleans(),
        thinking=maybe(st.booleans()),
        priority=priorities,
        session=maybe(session_names),
    ),
    st.builds(Prefill, ids, prompt=prompts, priority=priorities),
    st.builds(Tokenize, ids, texts, st.booleans()),
    st.builds(Sessions, ids, st.just("list"), skip=counts),
    st.builds(Sessions, ids, st.just("show"), session_names, skip=counts),
    st.builds(Sessions, ids, st.just("rename"), session_names, session_names),
    st.builds(Sessions, ids, st.just("delete"), session_names),
    st.builds(Cancel, ids),
    st.builds(Credit, ids, st.integers(1, limits.COUNT_MAX)),
    st.builds(Status),
    st.builds(Ping, maybe(ids)),
    st.builds(Drain, ids),
    st.builds(Reload, ids),
    st.builds(Load, ids, texts),
    st.builds(Unload, ids),
    st.builds(
        Pull,
        ids,
        texts,
        maybe(names),
        maybe(names),
        st.sampled_from(["auto", "hub", "modelscope"]),
        st.booleans(),
        st.booleans(),
    ),
)
daemon_messages: st.SearchStrategy[DaemonMessage] = st.one_of(
    st.builds(
        Welcome,
        names,
        names,
        counts,
        capabilities,
        st.integers(limits.HELLO_FRAME_BYTES, limits.COUNT_MAX),
    ),
    st.builds(Accepted, ids, counts, counts),
    st.builds(Progress, ids, st.sampled_from(["queued", "prefill"]), counts, counts),
    st.builds(Token, ids, counts, token_ids, texts, texts),
    st.builds(
        Done,
        ids,
        st.sampled_from(["stop", "stop_string", "length", "cancelled", "prefilled", "tokenized"]),
        st.builds(Usage, counts, counts, counts, maybe(seconds)),
        maybe(st.builds(Timings, *[seconds] * 6)),
        maybe(st.integers(0, limits.SEED_MAX)),
        maybe(token_ids),
        maybe(names),
    ),
    st.builds(Error, names, texts, maybe(ids), maybe(seconds)),
    st.builds(
        SessionsReply,
        ids,
        st.lists(session_facts, max_size=3).map(tuple),
        st.booleans(),
        maybe(st.lists(session_messages, max_size=3).map(tuple)),
    ),
    st.builds(StatusReply, st.dictionaries(texts, texts | counts | seconds, max_size=4)),
    st.builds(Pong, maybe(ids)),
    st.builds(GoAway, names, texts),
)

# Whatever MessagePack can carry under string keys, so that it gets as far as the fields.
anything: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | texts
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts | counts, inner, max_size=5),
    max_leaves=10,
)
