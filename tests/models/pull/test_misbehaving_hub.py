"""A hub that misbehaves, over real connections: the file comes whole and right, or not at all."""

from __future__ import annotations

import gzip
import select
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qwend.errors import FetchError
from tests.models.pull.puller import QUICK, SEAL_BYTES, Puller
from tests.models.pull.stub_hub import Request, StubHub, digest, model_bytes, stub_hub

DATA = model_bytes()
OTHER = model_bytes(seed=2)


@pytest.fixture
def hub() -> Iterator[StubHub]:
    with stub_hub(model=DATA) as hub:
        yield hub


@pytest.fixture
def puller(hub: StubHub, tmp_path: Path) -> Puller:
    return Puller(hub, tmp_path / "models")


def assert_absent(puller: Puller, *, code: str = "fetch_failed", **options: object) -> str:
    """It is refused with this code, and nothing has a name; return the message."""
    with pytest.raises(FetchError) as caught:
        puller.pull(**options)  # type: ignore[arg-type]
    assert caught.value.code == code, caught.value
    assert puller.published() == []
    return str(caught.value)


def first_start(spread: str) -> int:
    return int(spread.removeprefix("bytes=").rstrip("-") or 0) if spread else 0


@pytest.mark.row("I1")
def test_a_file_that_is_cut_at_each_twentieth_comes_whole_and_no_byte_twice(
    hub: StubHub, puller: Puller
) -> None:
    cuts = [len(DATA) * part // 20 for part in range(1, 20)]

    def cut(request: Request) -> None:
        ahead = [at for at in cuts if at > request.start]
        request.serve(upto=ahead[0] if ahead else None)

    hub.on_file = cut

    assert puller.pull().fetched_bytes == len(DATA)

    assert puller.published() == [DATA]
    assert [first_start(spread) for spread in hub.ranges()] == [0, *cuts]
    assert puller.left_over() == []


@pytest.mark.row("I1")
def test_without_ranges_it_comes_from_its_beginning(hub: StubHub, puller: Puller) -> None:
    def simple(request: Request) -> None:
        request.reply(200, DATA, upto=100_000 if request.number == 0 else None)

    hub.on_file = simple
    puller.pull()

    assert puller.published() == [DATA]
    assert any("comes from its beginning" in notice for notice in puller.notices)


@pytest.mark.row("I1")
def test_a_server_without_ranges_that_always_cuts_is_given_up(hub: StubHub, puller: Puller) -> None:
    hub.on_file = lambda request: request.reply(200, DATA, upto=100_000)

    assert "ended after 100000 of" in assert_absent(puller)


@pytest.mark.row("I1")
def test_another_range_than_was_asked_for_is_not_written_down(hub: StubHub, puller: Puller) -> None:
    def shifted(request: Request) -> None:
        if not request.has_range:
            request.serve(upto=150_000 if request.number == 0 else None)
            return
        start, total = request.start - 1000, len(DATA)
        headers = {"Content-Range": f"bytes {start}-{total - 1}/{total}"}
        request.reply(206, DATA[start:], headers=headers)

    hub.on_file = shifted
    puller.pull()

    assert puller.published() == [DATA]
    assert sum("gives the range" in notice for notice in puller.notices) == 1


@pytest.mark.row("I1")
def test_a_file_that_changes_between_two_parts_is_fetched_as_it_is_now(
    hub: StubHub, puller: Puller
) -> None:
    def changing(request: Request) -> None:
        if request.number == 0:
            request.serve(upto=150_000)
            hub.files["model.gguf"] = OTHER
        else:
            request.serve()

    hub.on_file = changing
    pulled = puller.pull()

    assert puller.published() == [OTHER]
    assert pulled.manifest.sha256 == digest(OTHER)
    assert any("another file there now" in notice for notice in puller.notices)


@pytest.mark.row("I1")
def test_a_source_that_changes_all_the_time_is_given_up(hub: StubHub, puller: Puller) -> None:
    seeds = iter(range(3, 100))

    def changing(request: Request) -> None:
        request.serve(upto=100_000)
        hub.files["model.gguf"] = model_bytes(seed=next(seeds))

    hub.on_file = changing

    assert "changes the file while it is fetched" in assert_absent(puller)


@pytest.mark.row("I1")
def test_another_etag_for_the_same_file_costs_one_request_and_no_byte(
    hub: StubHub, puller: Puller
) -> None:
    def balanced(request: Request) -> None:
        # Two machines of a CDN that name the same file differently.
        asked = request.handler.headers.get("If-Range")
        etag = {"ETag": f'"machine-{request.number}"'}
        if request.number == 0:
            request.reply(200, DATA, 150_000, etag)
        elif asked is not None and asked != etag["ETag"]:
            request.reply(200, DATA, 0, etag)
        else:
            request.serve(headers=etag)

    hub.on_file = balanced
    puller.pull()

    assert puller.published() == [DATA]
    assert [first_start(spread) for spread in hub.ranges()] == [0, 150_000, 150_000]


@pytest.mark.row("I1")
def test_if_range_names_the_etag_that_came_first(hub: StubHub, puller: Puller) -> None:
    hub.on_file = lambda request: request.serve(upto=150_000 if request.number == 0 else None)
    puller.pull()

    asked = [headers.get("If-Range") for headers in hub.headers if "Range" in headers]
    assert asked[-1] == f'"{digest(DATA)[:32]}"'


@pytest.mark.row("I1")
def test_416_leads_to_a_fresh_beginning(hub: StubHub, puller: Puller) -> None:
    def odd(request: Request) -> None:
        if request.has_range:
            request.reply(416)
        else:
            request.serve(upto=150_000 if request.number == 0 else None)

    hub.on_file = odd
    puller.pull()

    assert puller.published() == [DATA]


@pytest.mark.row("I1")
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_kept_to(hub: StubHub, puller: Puller, status: int) -> None:
    def busy(request: Request) -> None:
        if request.number == 0:
            request.reply(status, headers={"Retry-After": "7"})
        else:
            request.serve()

    hub.on_file = busy
    puller.pull()

    assert puller.published() == [DATA]
    assert puller.waits == [7.0]


@pytest.mark.row("I1")
def test_who_asks_to_wait_for_an_hour_is_told_to_the_person(hub: StubHub, puller: Puller) -> None:
    hub.on_file = lambda request: request.reply(429, headers={"Retry-After": "3600"})

    assert "3600 s" in assert_absent(puller)


@pytest.mark.row("I1")
def test_waits_grow_and_end(hub: StubHub, puller: Puller) -> None:
    hub.on_file = lambda request: request.reply(500)

    assert "answers 500" in assert_absent(puller)
    assert puller.waits == [1.0, 2.0, 4.0, 8.0]


def trickle(request: Request) -> None:
    """A byte now and then, for as long as somebody listens."""
    request.reply(200, DATA, upto=0)
    for at in range(600):
        request.handler.wfile.write(DATA[at : at + 1])
        if gone(request, 0.05):
            return


def fall_silent(request: Request) -> None:
    request.reply(200, DATA, upto=100_000)
    gone(request)


def gone(request: Request, seconds: float = 30.0) -> bool:
    """Keep the connection open and silent until the other side leaves, or for so long."""
    ready, _, _ = select.select([request.handler.connection], [], [], seconds)
    return bool(ready)


@pytest.mark.row("I1")
@pytest.mark.parametrize("behaviour", ["trickles", "says nothing", "never answers"])
def test_a_stall_is_noticed_and_the_next_attempt_goes_on(
    hub: StubHub, puller: Puller, behaviour: str
) -> None:
    puller.patience = QUICK
    behaviours: dict[str, Callable[[Request], object]] = {
        "trickles": trickle,
        "says nothing": fall_silent,
        "never answers": gone,
    }
    if behaviour == "never answers":
        puller.patience = type(QUICK)(head_s=0.3)

    def stalling(request: Request) -> None:
        if request.number == 0:
            behaviours[behaviour](request)
        else:
            request.serve()

    hub.on_file = stalling
    puller.pull()

    assert puller.published() == [DATA]
    assert any("went silent" in notice or "did not answer" in notice for notice in puller.notices)


@pytest.mark.row("I1")
def test_a_redirect_loop_ends(hub: StubHub, puller: Puller) -> None:
    location = f"{hub.url}/cdn/model.gguf"
    hub.on_file = lambda request: request.reply(302, headers={"Location": location})

    assert "redirects more than" in assert_absent(puller)
    assert len(hub.asked) < 20


@pytest.mark.row("I1")
@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/model.gguf",
        "http://example.com/model.gguf",
        "//example.com/model.gguf",
        "gopher://127.0.0.1:70/1",
        "http://user:secret@127.0.0.1/",
        "https://",
        "javascript:alert(1)",
        "http://127.0.0.1:99999/",
        "http://exa mple.com/",
        "data:text/plain,GGUF",
    ],
)
def test_a_redirect_to_elsewhere_is_not_followed(
    hub: StubHub, puller: Puller, location: str
) -> None:
    hub.on_file = lambda request: request.reply(302, headers={"Location": location})

    assert_absent(puller)
    assert len(hub.ranges()) == 1


@pytest.mark.row("I1")
def test_a_token_goes_to_the_hub_and_not_where_it_redirects(
    hub: StubHub, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        StubHub,
        "environ",
        property(lambda hub: {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_secret"}),
    )
    puller.pull()

    told = {path: headers.get("Authorization") for (_, path, _), headers in _by_path(hub)}
    assert told["/cdn/model.gguf"] is None
    assert {value for path, value in told.items() if "/cdn/" not in path} == {"Bearer hf_secret"}


def _by_path(hub: StubHub) -> Iterator[tuple[tuple[str, str, str], dict[str, str]]]:
    return zip(hub.asked, hub.headers, strict=True)


@pytest.mark.row("I1")
def test_a_packed_body_is_no_file(hub: StubHub, puller: Puller) -> None:
    packed = gzip.compress(DATA)
    hub.on_file = lambda request: request.reply(200, packed, headers={"Content-Encoding": "gzip"})

    assert "packs what should come as it is" in assert_absent(puller)


@pytest.mark.row("I1")
def test_a_page_to_log_in_is_no_file(hub: StubHub, puller: Puller) -> None:
    page = b"<html>Welcome to the hotel</html>".ljust(len(DATA))
    hub.on_file = lambda request: request.reply(200, page)

    assert "is there a page to log in?" in assert_absent(puller)


@pytest.mark.row("I1")
@pytest.mark.parametrize("more", [1, 100_000])
def test_a_file_that_is_too_long_is_refused(hub: StubHub, puller: Puller, more: int) -> None:
    hub.on_file = lambda request: request.reply(200, DATA + bytes(more))

    assert f"has {len(DATA) + more} bytes where {len(DATA)} were announced" in assert_absent(puller)


@pytest.mark.row("I1")
def test_a_body_without_a_length_that_goes_on_and_on_is_cut_off(
    hub: StubHub, puller: Puller
) -> None:
    def endless(request: Request) -> None:
        request.reply(200, DATA + bytes(100_000), headers={"Content-Length": ""})

    hub.on_file = endless

    assert f"gives more than {len(DATA)} bytes" in assert_absent(puller)


@pytest.mark.row("I1")
def test_a_file_that_is_too_short_is_refused(hub: StubHub, puller: Puller) -> None:
    hub.on_file = lambda request: request.reply(200, DATA[:-1000])

    assert_absent(puller)


@pytest.mark.row("I1")
def test_what_is_no_http_is_no_answer(hub: StubHub, puller: Puller) -> None:
    def noise(request: Request) -> None:
        request.handler.wfile.write(b"\x00\xff" * 5000)

    hub.on_file = noise

    assert_absent(puller)


@pytest.mark.row("I2")
def test_wrong_bytes_of_the_right_length_are_removed_and_both_hashes_named(
    hub: StubHub, puller: Puller
) -> None:
    hub.on_file = lambda request: request.reply(200, OTHER)

    message = assert_absent(puller, code="wrong_bytes")

    assert digest(DATA) in message
    assert digest(OTHER) in message
    assert puller.left_over() == []


@pytest.mark.row("I2")
def test_a_wrong_hash_in_the_metadata_publishes_nothing(hub: StubHub, puller: Puller) -> None:
    hub.oids["model.gguf"] = "a" * 64

    message = assert_absent(puller, code="wrong_bytes")

    assert "a" * 64 in message
    assert digest(DATA) in message


@pytest.mark.row("I2")
@pytest.mark.parametrize("at", [100, 5 * SEAL_BYTES + 7])
def test_what_the_disk_has_changed_of_a_part_is_fetched_again(
    hub: StubHub, puller: Puller, at: int
) -> None:
    puller.attempts = 1
    hub.on_file = lambda request: (
        request.serve(upto=150_000) if request.number == 0 else request.reply(500)
    )
    assert_absent(puller)
    part = puller.store.parts / f"{digest(DATA)}.part"
    damaged = bytearray(part.read_bytes())
    damaged[at] ^= 1
    part.write_bytes(damaged)

    hub.on_file = lambda request: request.serve()
    puller.pull()

    assert puller.published() == [DATA]
    # What is before the damage was sealed, and is not asked for again.
    before = first_start(hub.ranges()[-1])
    assert 0 <= before <= at
    assert at - before < 2 * SEAL_BYTES + 64 * 1024 or before == 0


@pytest.mark.row("I2")
def test_a_part_that_is_longer_than_the_file_is_cut(hub: StubHub, puller: Puller) -> None:
    puller.store.prepare()
    (puller.store.parts / f"{digest(DATA)}.part").write_bytes(DATA + bytes(50_000))

    puller.pull()

    assert puller.published() == [DATA]


@pytest.mark.row("I2")
def test_a_journal_of_nonsense_is_as_if_there_were_none(hub: StubHub, puller: Puller) -> None:
    puller.store.prepare()
    name = digest(DATA)
    (puller.store.parts / f"{name}.part").write_bytes(DATA[:100_000])
    for nonsense in (b"\xff" * 100, b"9" * 70_000, b"100000 " + b"a" * 64 + b"\n", b"-1 x\n"):
        (puller.store.parts / f"{name}.journal").write_bytes(nonsense)
        puller.pull(name="m")
        puller.store.remove("m")


@pytest.mark.row("I1")
def test_the_second_source_is_asked_where_the_first_is_gone(hub: StubHub, puller: Puller) -> None:
    hub.on_head = lambda request: request.reply(404)

    puller.pull(source="auto")

    assert puller.published() == [DATA]
    assert any(path.startswith("/api/v1/models/") for _, path, _ in hub.asked)


@pytest.mark.row("I1")
def test_a_first_source_that_is_ill_is_not_waited_for_long(hub: StubHub, puller: Puller) -> None:
    hub.on_head = lambda request: request.reply(503)
    puller.attempts = 8

    puller.pull(source="auto")

    assert puller.published() == [DATA]
    assert puller.waits == [1.0]


@pytest.mark.row("I1")
def test_a_part_of_one_source_is_gone_on_with_from_the_other(hub: StubHub, puller: Puller) -> None:
    hub.on_file = lambda request: (
        request.serve(upto=150_000) if request.number == 0 else request.reply(404)
    )
    assert_absent(puller, code="not_found")

    hub.on_file = lambda request: request.serve()
    puller.pull(source="modelscope")

    assert puller.published() == [DATA]
    assert first_start(hub.ranges()[-1]) == 150_000
