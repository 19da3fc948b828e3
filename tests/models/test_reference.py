from __future__ import annotations

import pytest

from qwend.errors import ConfigError
from qwend.models.reference import (
    CatalogueName,
    HubFile,
    LocalFile,
    WebFile,
    parts_of,
    read_reference,
    stem_of,
    store_name,
)

SHA = "a" * 64


def test_each_form_says_what_it_is() -> None:
    assert read_reference("qwen3-0.6b") == CatalogueName("qwen3-0.6b")
    assert read_reference("qwen3-0.6b:q8_0") == CatalogueName("qwen3-0.6b", "Q8_0")
    assert read_reference("hf:o/r/m.gguf") == HubFile("o/r", "m.gguf")
    assert read_reference("hf:o/r/a/b/m.gguf@v1.0") == HubFile("o/r", "a/b/m.gguf", "v1.0")
    assert read_reference("https://h/m.gguf", SHA) == WebFile("https://h/m.gguf", SHA)
    assert read_reference("./m.gguf") == LocalFile("./m.gguf")
    assert read_reference("m.gguf") == LocalFile("m.gguf")
    assert read_reference("/models/mine") == LocalFile("/models/mine")


def test_an_address_without_a_digest_is_refused() -> None:
    with pytest.raises(ConfigError, match="--sha256"):
        read_reference("https://example.com/m.gguf")


@pytest.mark.parametrize("sha256", ["abc", "g" * 64, "a" * 65, "sha256:" + SHA])
def test_what_is_no_digest_is_refused(sha256: str) -> None:
    with pytest.raises(ConfigError, match="64 hexadecimal digits"):
        read_reference("https://example.com/m.gguf", sha256)


@pytest.mark.row("I4")
@pytest.mark.parametrize(
    "text",
    [
        "hf:",
        "hf:owner",
        "hf:owner/repo",
        "hf:owner/repo/",
        "hf:owner/repo/readme.md",
        "hf:../../etc/m.gguf",
        "hf:owner/../m.gguf",
        "hf:owner/repo/../../../etc/m.gguf",
        "hf:owner/repo//m.gguf",
        "hf:owner/repo/./m.gguf",
        "hf:owner/repo/..\\m.gguf",
        "hf:owner/repo/a\nb.gguf",
        "hf:owner/repo/a\0b.gguf",
        "hf:owner/repo/\x1b[2J.gguf",
        "hf:owner/repo/" + "a" * 600 + ".gguf",
        "hf:-owner/repo/m.gguf",
        "hf:owner/.git/m.gguf",
        "hf:owner/repo/m.gguf@../../x",
        "hf:owner/repo/m.gguf@a b",
        "hf:owner/repo/m.gguf@",
        "hf:owner%2f..%2frepo/x/m.gguf",
        "hf:" + "o" * 97 + "/repo/m.gguf",
        "file:///etc/m.gguf",
        "ftp://host/m.gguf",
        "a b",
        "",
        ":",
        ":Q4_0",
        "name:",
        "name:Q4_0:Q8_0",
        "ä",
        "a" * 65,
        "naïve:Q4_0",
        "name\n",
    ],
)
def test_hostile_references_are_refused(text: str) -> None:
    if text == "hf:owner/repo/m.gguf@":
        assert read_reference(text) == HubFile("owner/repo", "m.gguf")
        return
    with pytest.raises(ConfigError):
        read_reference(text)


@pytest.mark.row("I4")
@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "../a", "a\0", "a\n", "ä", "a" * 65, "a b", "C:", "~"]
)
def test_hostile_names_are_none_of_the_store(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be the name of a model in the store"):
        store_name(name)


def test_a_split_file_names_all_of_its_parts() -> None:
    parts = ["q/m-00001-of-00003.gguf", "q/m-00002-of-00003.gguf", "q/m-00003-of-00003.gguf"]
    assert parts_of("q/m-00002-of-00003.gguf") == parts
    assert parts_of("best-of-breed.gguf") == ["best-of-breed.gguf"]
    assert stem_of(HubFile("o/r", parts[0])) == "m"
    assert stem_of(WebFile("https://h/a/m%2D1.gguf?x=/y", SHA)) == "m-1"
    assert stem_of(LocalFile("/models/m-00001-of-00003.gguf")) == "m"


@pytest.mark.parametrize("file", ["m-00000-of-00003.gguf", "m-00004-of-00003.gguf"])
def test_a_part_that_cannot_be_is_refused(file: str) -> None:
    with pytest.raises(ConfigError, match="cannot be"):
        parts_of(file)


def test_a_file_of_99999_parts_is_refused() -> None:
    with pytest.raises(ConfigError):
        parts_of("m-00001-of-99999.gguf")
