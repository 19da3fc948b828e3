"""What a pull asks, what it takes, and what it says, where the hub does as it should."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from qwend.errors import ConfigError, FetchError, ModelError
from qwend.models.catalogue import Catalogue, CataloguedFile, CataloguedModel, catalogue
from qwend.models.pull import wanted as wanted_module
from qwend.models.pull.hub import Hub, endpoint_from, token_from
from qwend.models.pull.web import Web
from qwend.models.reference import HubFile
from qwend.models.store import resolve_model
from tests.models.pull.puller import Puller
from tests.models.pull.stub_hub import COMMIT, StubHub, digest, model_bytes, stub_hub
from tests.models.support.gguf_builder import tiny_model
from tests.models.test_split_join import split, whole

DATA = model_bytes()


@pytest.fixture
def hub() -> Iterator[StubHub]:
    with stub_hub(model=DATA) as hub:
        yield hub


@pytest.fixture
def puller(hub: StubHub, tmp_path: Path) -> Puller:
    return Puller(hub, tmp_path / "models")


def test_a_pull_goes_to_a_commit_and_remembers_it(hub: StubHub, puller: Puller) -> None:
    manifest = puller.pull().manifest

    assert manifest.revision == COMMIT
    assert manifest.origin == "hf:owner/repo/model.gguf"
    assert (manifest.architecture, manifest.quantization) == ("qwen2", "Q4_0")
    assert f"/owner/repo/resolve/{COMMIT}/model.gguf" in [path for _, path, _ in hub.asked]


def test_what_is_there_is_not_fetched_again(hub: StubHub, puller: Puller) -> None:
    puller.pull()
    puller.pull()
    puller.pull(name="the-same")

    assert len(hub.ranges()) == 1
    assert puller.store.names() == ["model", "the-same"]


def test_a_newer_file_takes_the_name_over(hub: StubHub, puller: Puller) -> None:
    puller.pull()
    hub.files["model.gguf"] = newer = model_bytes(seed=9)
    puller.pull()

    assert resolve_model("model", puller.models_dir).path.read_bytes() == newer
    assert puller.store.sweep().freed_bytes == len(DATA)


def test_a_pull_mends_what_the_store_cannot_read(hub: StubHub, puller: Puller) -> None:
    puller.pull()
    (puller.models_dir / "store" / "manifests" / "model.json").write_text("{")

    assert puller.pull().fetched_bytes == 0
    assert puller.published() == [DATA]


def test_a_mirror_without_the_headers_is_asked_for_its_tree(hub: StubHub, puller: Puller) -> None:
    hub.on_head = lambda request: request.reply(200)
    puller.pull()

    assert puller.published() == [DATA]
    assert any("/tree/main" in path for _, path, _ in hub.asked)


def test_a_mirror_that_does_not_know_head_is_asked_for_its_tree(
    hub: StubHub, puller: Puller
) -> None:
    hub.on_head = lambda request: request.reply(405)
    puller.pull()

    assert puller.published() == [DATA]


def test_without_a_digest_nothing_is_fetched(hub: StubHub, puller: Puller) -> None:
    hub.on_head = lambda request: request.reply(200)
    hub.oids["model.gguf"] = "sha1-or-so"

    with pytest.raises(FetchError, match="does not say what the SHA-256") as caught:
        puller.pull()
    assert caught.value.code == "no_digest"
    assert hub.ranges() == []


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [(401, "forbidden", "HF_TOKEN"), (403, "forbidden", "licence"), (404, "not_found", "has no")],
)
def test_a_refusal_says_what_to_do(
    hub: StubHub, puller: Puller, status: int, code: str, said: str
) -> None:
    hub.on_head = lambda request: request.reply(status)

    with pytest.raises(FetchError, match=said) as caught:
        puller.pull()
    assert caught.value.code == code
    assert puller.waits == []


def test_an_address_is_fetched_with_the_digest_that_was_given(hub: StubHub, puller: Puller) -> None:
    manifest = puller.pull(f"{hub.url}/cdn/model.gguf?token=secret", digest(DATA)).manifest

    assert manifest.name == "model"
    assert "secret" not in manifest.origin
    assert puller.published() == [DATA]


@pytest.mark.parametrize("url", ["http://example.com/m.gguf", "http://10.0.0.1/m.gguf"])
def test_a_plain_address_elsewhere_is_refused(puller: Puller, url: str) -> None:
    with pytest.raises(FetchError, match="can be changed on its way"):
        puller.pull(url, digest(DATA))


def test_nobody_there_is_said_with_the_host(puller: Puller) -> None:
    with stub_hub() as gone:
        port = gone.port
    with pytest.raises(FetchError, match=r"127\.0\.0\.1: Connection refused"):
        puller.pull(f"http://127.0.0.1:{port}/m.gguf", digest(DATA))


def test_a_split_model_comes_as_one_file(hub: StubHub, puller: Puller) -> None:
    model = whole()
    for at, part in enumerate(split(model)):
        hub.files[f"q/big-{at + 1:05d}-of-00003.gguf"] = part.build()

    pulled = puller.pull("hf:owner/repo/q/big-00001-of-00003.gguf")

    assert pulled.manifest.name == "big"
    assert puller.published() == [model.build()]
    assert puller.left_over() == []
    assert puller.pull("hf:owner/repo/q/big-00001-of-00003.gguf").fetched_bytes == 0


def test_a_file_that_is_no_qwen_is_not_published_unless_that_is_wanted(
    hub: StubHub, puller: Puller
) -> None:
    hub.files["llama.gguf"] = tiny_model("llama").build()

    with pytest.raises(ModelError, match="--any-architecture"):
        puller.pull("hf:owner/repo/llama.gguf")
    assert puller.published() == []

    puller.pull("hf:owner/repo/llama.gguf", any_architecture=True)
    assert puller.store.names() == ["llama"]
    assert len(hub.ranges()) == 1


def test_a_file_in_the_way_is_named(puller: Puller) -> None:
    puller.models_dir.mkdir()
    (puller.models_dir / "model.gguf").write_bytes(DATA)

    with pytest.raises(FetchError, match="has this name already") as caught:
        puller.pull()
    assert caught.value.code == "name_taken"


def test_a_name_of_the_catalogue_leads_to_its_file_and_differences_are_said(
    hub: StubHub, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = catalogue().find("qwen2.5-0.5b-instruct")
    file = CataloguedFile("Q4_0", "model.gguf", "digest", 12345, "a" * 64)
    files = {"Q4_0": file, "Q8_0": CataloguedFile("Q8_0", "model.gguf", "name")}
    entry = CataloguedModel(
        "little", "", "owner/repo", "Apache-2.0", real.context, real.shape, files
    )
    known = Catalogue("little", {"little": entry})
    monkeypatch.setattr("tests.models.pull.puller.catalogue", lambda: known)

    manifest = puller.pull("little").manifest

    assert (manifest.name, manifest.licence) == ("little", "Apache-2.0")
    assert any("12345" in notice and str(len(DATA)) in notice for notice in puller.notices)
    assert any("a" * 64 in notice and digest(DATA) in notice for notice in puller.notices)
    assert puller.pull("little:q8_0").manifest.name == "little-q8_0"


def test_a_directory_on_the_hub_is_part_of_the_path(hub: StubHub, puller: Puller) -> None:
    hub.files["Q4_0/mine with space.gguf"] = DATA

    assert (
        puller.pull("hf:owner/repo/Q4_0/mine with space.gguf", name="mine").manifest.name == "mine"
    )


def test_a_path_is_for_import(puller: Puller) -> None:
    with pytest.raises(ConfigError, match="models import"):
        puller.pull("./m.gguf")


def test_the_hubs_variables_are_read_as_its_library_reads_them(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    assert endpoint_from({}) == "https://huggingface.co"
    assert endpoint_from({"HF_ENDPOINT": "https://hf-mirror.com/"}) == "https://hf-mirror.com"
    assert token_from(home) == ""
    (tmp_path / ".cache" / "huggingface").mkdir(parents=True)
    (tmp_path / ".cache" / "huggingface" / "token").write_text("hf_file\n")
    assert token_from(home) == "hf_file"
    assert token_from({**home, "HF_TOKEN": "hf_variable"}) == "hf_variable"
    (tmp_path / "t").write_text("hf_path")
    assert token_from({**home, "HF_TOKEN_PATH": str(tmp_path / "t")}) == "hf_path"
    assert token_from({"HF_TOKEN": "x\r\nEvil: 1"}) == ""


def test_both_hubs_are_asked_in_turn_unless_a_revision_is_named() -> None:
    def names(what: str, source: str = "auto") -> list[str]:
        found = wanted_module.wanted(
            HubFile("o/r", "m.gguf", what), catalogue(), Web({}), {}, source=source
        )
        return [each.name for each in found.sources]

    assert names("main") == ["huggingface.co", "modelscope.cn"]
    assert names("main", "modelscope") == ["modelscope.cn"]
    assert names("v1") == ["huggingface.co"]


def test_a_proxy_is_used_and_left_out_as_the_variables_say(hub: StubHub) -> None:
    proxied = Web({"http_proxy": f"http://127.0.0.1:{hub.port}"})
    with proxied.ask("http://example.invalid/cdn/model.gguf", plain_http=True) as answer:
        assert answer.status == 200
    assert hub.headers[-1]["Host"] == "example.invalid"

    without = Web({"http_proxy": "http://127.0.0.1:1", "no_proxy": "localhost,127.0.0.1"})
    assert Hub(without, "owner/repo", endpoint=hub.url).find("model.gguf").sha256 == digest(DATA)
