from __future__ import annotations

import re

import pytest

from qwend.errors import ModelError
from qwend.models.catalogue import (
    DEFAULT_QUANTIZATION,
    CataloguedFile,
    catalogue,
    differences,
    read_catalogue,
)
from qwend.models.reference import DIGEST, HubFile, parts_of, read_reference, store_name

MODELS = list(catalogue().models.values())


def test_the_default_is_the_smallest_of_qwen2_5() -> None:
    assert catalogue().default == "qwen2.5-0.5b-instruct"
    assert DEFAULT_QUANTIZATION == "Q4_0"


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_every_entry_can_be_pulled_as_it_stands(model) -> None:  # type: ignore[no-untyped-def]
    assert store_name(model.name) == model.name == model.name.lower()
    assert DEFAULT_QUANTIZATION in model.files
    for quantization, file in model.files.items():
        assert isinstance(read_reference(f"hf:{model.repository}/{file.file}"), HubFile)
        assert re.search(quantization, file.file, re.IGNORECASE)
        assert file.sha256 is None or DIGEST.fullmatch(file.sha256)
        assert len(parts_of(file.file)) in (1, 2, 3)
        assert model.size_bytes(quantization) > 300_000_000


def test_the_families_that_were_promised_are_there() -> None:
    names = set(catalogue().models)

    assert {f"qwen2.5-{size}-instruct" for size in ("0.5b", "1.5b", "3b", "7b")} <= names
    assert {f"qwen2.5-coder-{size}-instruct" for size in ("0.5b", "1.5b", "3b", "7b")} <= names
    assert {"qwen3-0.6b", "qwen3-1.7b", "qwen3-4b", "qwen3.5-0.8b", "qwen3.5-2b"} <= names


def test_every_fact_names_where_it_comes_from() -> None:
    text = 'default = "a"\n[from]\n[model.a]\n'
    with pytest.raises(KeyError):
        read_catalogue(text)
    assert {file.origin for model in MODELS for file in model.files.values()} <= {
        "digest",
        "listing",
        "name",
    }
    for model in MODELS:
        for file in model.files.values():
            known = {"digest": file.sha256, "listing": file.size_bytes, "name": True}
            assert known[file.origin]


def test_a_misspelt_name_gets_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"Did you mean 'qwen2\.5-0\.5b-instruct'"):
        catalogue().find("qwen-2.5-0.5b-instruct")


def test_an_unknown_quantization_gets_those_there_are() -> None:
    with pytest.raises(ModelError, match="there are: Q4_0, Q4_K_M, Q8_0"):
        catalogue().find("qwen3-0.6b").file("Q2_K")


def test_a_difference_from_the_hub_is_said_with_both_values() -> None:
    known = CataloguedFile("Q4_0", "m.gguf", "digest", 100, "a" * 64)

    assert differences(known, 100, "a" * 64) == []
    assert differences(known, None, "") == []
    said = differences(known, 101, "b" * 64)
    assert "101" in said[0]
    assert "100" in said[0]
    assert "b" * 64 in said[1]
    assert "a" * 64 in said[1]
    assert differences(CataloguedFile("Q4_0", "m.gguf", "name"), 101, "b" * 64) == []
