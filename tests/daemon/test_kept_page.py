"""A page says what is to be known of a connection, or that it is in doubt, whenever it is read."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from qwend.daemon.kept_page import MAGIC, PAGE_BYTES, Doubt, Page, Pages, Record

RECORD = Record(("reasoning",), (3, 2**53 - 1), b"\0half a frame\xff")


@pytest.fixture
def pages() -> Iterator[Pages]:
    one = Pages.create(3)
    yield one
    one.close()


def left(pages: Pages, number: int = 1) -> tuple[Record, Doubt] | None:
    """What a process finds that opens the memory now."""
    another = Pages.open(os.dup(pages.fd), 3)
    assert another is not None
    found = another.page(number).read()
    another.close()
    return found


def settled(page: Page, record: Record) -> None:
    assert page.write(record)
    page.end(Doubt.READING | Doubt.WRITING)


def test_what_is_written_is_read_by_another_process_and_its_neighbours_are_empty(
    pages: Pages,
) -> None:
    settled(pages.page(2), RECORD)
    assert left(pages, 2) == (RECORD, Doubt.NONE)
    assert left(pages, 1) is None
    assert left(pages, 3) is None


def test_a_page_is_in_doubt_from_the_first_byte_of_a_record_to_its_end(pages: Pages) -> None:
    page = pages.page(1)
    assert page.write(RECORD)
    found = left(pages)
    assert found is not None
    assert found[1] == Doubt.READING | Doubt.WRITING
    page.end(Doubt.READING)
    assert page.doubt is Doubt.WRITING
    page.end(Doubt.WRITING)
    assert left(pages) == (RECORD, Doubt.NONE)


@pytest.mark.parametrize("doubt", [Doubt.READING, Doubt.WRITING])
def test_a_doubt_lasts_from_its_beginning_to_its_end(pages: Pages, doubt: Doubt) -> None:
    page = pages.page(1)
    settled(page, RECORD)
    page.begin(doubt)
    assert left(pages) == (RECORD, doubt)
    page.end(doubt)
    assert left(pages) == (RECORD, Doubt.NONE)


def test_a_record_that_is_too_long_changes_nothing(pages: Pages) -> None:
    page = pages.page(1)
    settled(page, RECORD)
    assert not page.write(Record(held=bytes(PAGE_BYTES)))
    assert left(pages) == (RECORD, Doubt.NONE)
    assert page.write(Record(held=bytes(PAGE_BYTES - 100)))
    assert left(pages, 2) is None


def test_a_cleared_page_is_nobodys(pages: Pages) -> None:
    page = pages.page(1)
    settled(page, RECORD)
    page.clear()
    assert left(pages) is None


def test_what_a_newer_record_says_besides_is_passed_over(pages: Pages) -> None:
    text = b'{"capabilities":["a"],"open":[1],"streams":{"1":"..."}}'
    header = bytes([0x80]) + len(text).to_bytes(2, "big") + bytes(2)
    os.pwrite(pages.fd, header + text, PAGE_BYTES)
    assert left(pages) == (Record(("a",), (1,)), Doubt.NONE)


@pytest.mark.parametrize(
    "page",
    [
        b"\x80\xff\xff\xff\xff",
        b"\x80\x00\x04\x00\x00nope",
        b"\x80\x00\x02\x00\x00{}",
        b'\x80\x00\x1e\x00\x00{"capabilities":5,"open":null}',
    ],
)
def test_a_page_that_makes_no_sense_is_none(pages: Pages, page: bytes) -> None:
    os.pwrite(pages.fd, page, PAGE_BYTES)
    assert left(pages) is None


def test_memory_of_another_format_is_refused_and_smaller_memory_grows(pages: Pages) -> None:
    for content in (b"", b"x", bytes(PAGE_BYTES), MAGIC):
        other = os.memfd_create("other")
        os.write(other, content)
        assert Pages.open(other, 3) is None
        os.close(other)
    larger = Pages.open(os.dup(pages.fd), 7)
    assert larger is not None
    assert len(larger) == 7
    settled(larger.page(7), RECORD)
    larger.close()
