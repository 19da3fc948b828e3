"""`qwenctl models`: what is there, what could be, and what may be taken away."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from qwend.cli.exits import Exit
from qwend.cli.models import place
from qwend.cli.models.bandwidth import known_bandwidth
from qwend.cli.models.shown import mebi, parameters
from qwend.models.blob_store import BlobStore, file_digest
from qwend.models.intake import import_file
from qwend.models.store import guide_path
from qwend.wire import Status, StatusReply
from tests.cli.in_process import Ended, InProcess
from tests.client.fake_daemon import Talk, fake_daemon
from tests.models.support.gguf_builder import tiny_model
from tests.support.daemon import daemon_env, running_daemon, wait_until

Models = Callable[..., Ended]


@pytest.fixture
def env(tmp_path: Path) -> Mapping[str, str]:
    return daemon_env(tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (path := tmp_path / "tiny.gguf").write_bytes(tiny_model().build())
    return path


@pytest.fixture
def store(env: Mapping[str, str], file: Path) -> BlobStore:
    """With one model, `tiny`."""
    store = BlobStore(Path(env["STATE_DIRECTORY"]) / "models")
    import_file(store, str(file))
    return store


@pytest.fixture
def models(
    env: Mapping[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Models:
    here = InProcess(capsys, monkeypatch)
    return lambda *arguments: here.run("models", *arguments, env=env)


def test_list_names_what_is_there(models: Models, store: BlobStore, file: Path) -> None:
    (store.models_dir / "by-hand.gguf").write_bytes(file.read_bytes())

    rows = {row["name"]: row for row in json.loads(models("list", "--json").stdout)}

    assert list(rows) == ["guide", "by-hand", "tiny"]
    assert rows["guide"]["default"]
    assert rows["tiny"]["origin"] == str(file)
    assert rows["tiny"]["quantization"] == "Q4_0"
    text = models("list").stdout
    assert "a file in the models directory" in text
    assert "built in" in text


def test_a_model_whose_file_is_gone_is_listed_as_such(models: Models, store: BlobStore) -> None:
    manifest = store.manifest("tiny")
    assert manifest is not None
    store.blob_path(manifest.sha256).unlink()

    assert "is missing" in models("list").stdout


def test_show_tells_what_is_known(models: Models, store: BlobStore, file: Path) -> None:
    fields = json.loads(models("show", "tiny", "--json").stdout)

    assert fields["sha256"] == file_digest(file)
    assert fields["architecture"] == "qwen2"
    assert Path(fields["path"]).read_bytes() == file.read_bytes()
    assert "qwenctl pull qwen3-0.6b" in models("show", "qwen3-0.6b").stdout
    assert "there is no model 'nothing'" in models("show", "nothing").stderr


def test_available_says_what_fits(models: Models) -> None:
    rows = json.loads(models("available", "--json").stdout)

    assert rows[0]["name"] == "qwen2.5-0.5b-instruct"
    assert {row["fits"] for row in rows} <= {"yes", "slower", "no"}
    assert all(row["memory_bytes"] >= row["least_memory_bytes"] > 2**28 for row in rows)
    assert rows[0]["tokens_s"] == 0
    assert "?" in models("available").stdout


def test_speed_follows_from_what_the_daemon_has_measured(
    models: Models, env: Mapping[str, str], tmp_path: Path
) -> None:
    kept = Path(env["STATE_DIRECTORY"]) / "engine"
    kept.mkdir()
    for name, size, step_s, when in (
        ("old", 400_000_000, 0.1, 1),
        ("new", 400_000_000, 0.02, 2),
        ("guide", 2_400_000, 0.001, 3),
    ):
        fields = {"model_bytes": size, "measured_at": when, "cost": {"rows": {"1": step_s}}}
        (kept / f"calibration-{name}.json").write_text(json.dumps(fields))
    for name, text in (("bad", "{"), ("odd", "[]"), ("older", '{"cost": {"rows": {"1": 1}}}')):
        (kept / f"calibration-{name}.json").write_text(text)

    assert known_bandwidth({}, kept.parent) == pytest.approx(2e10)
    status = {"model": {"bytes": 352_000_000}, "engine": {"step_ms": {"1": 17.6}}}
    assert known_bandwidth(status, tmp_path) == pytest.approx(2e10)
    rows = json.loads(models("available", "--json").stdout)
    assert 40 < rows[0]["tokens_s"] < 70
    assert rows[1]["tokens_s"] < rows[0]["tokens_s"]


def test_default_is_shown_and_chosen(models: Models, store: BlobStore) -> None:
    assert models("default").stdout == "guide\n"

    done = models("default", "tiny")

    assert 'name = "tiny" under [model]' in done.stdout
    assert models("default").stdout == "tiny\n"
    assert "already" in models("default", "tiny").stdout
    assert models("default", "nothing").returncode == Exit.REQUEST_FAILED


def test_rm_removes_and_says_what_is_free(models: Models, store: BlobStore) -> None:
    assert "tiny is removed" in models("rm", "tiny").stdout
    assert store.names() == []
    assert list((store.models_dir / "store" / "blobs").iterdir()) == []


def test_rm_refuses_what_the_daemon_loads_at_its_next_start(
    models: Models, store: BlobStore
) -> None:
    models("default", "tiny")

    done = models("rm", "tiny")

    assert done.returncode == Exit.REQUEST_FAILED
    assert "next start" in done.stderr
    assert store.names() == ["tiny"]


def test_rm_refuses_what_is_no_model_of_the_store(models: Models) -> None:
    assert "was not pulled or imported" in models("rm", "guide").stderr
    assert models("rm", "../../x").returncode != Exit.DONE


def test_rm_takes_away_what_cannot_be_read(models: Models, store: BlobStore) -> None:
    (store.models_dir / "store" / "manifests" / "tiny.json").write_text("{")

    assert models("rm", "tiny").returncode == Exit.DONE
    assert store.names() == []


def test_a_model_that_has_no_name_is_listed_by_its_path(
    models: Models, env: Mapping[str, str], file: Path
) -> None:
    assert models("default", str(file)).returncode == Exit.DONE

    guide, mine = json.loads(models("list", "--json").stdout)
    assert (guide["default"], mine["default"], mine["name"]) == (False, True, str(file))
    assert "a file elsewhere  default" in models("list").stdout
    file.unlink()
    assert "a file that is not there" in models("list").stdout
    assert "Only the guide is here" in models("list").stderr


@pytest.mark.parametrize(
    ("engine", "role", "why"),
    [
        ("ready", "resident", "is what the daemon answers with"),
        ("unloaded", "", "is what the daemon loads at the next request"),
        ("ready", "loading", "is being loaded by the daemon"),
        ("ready", "leaving", "still ends the answers that it has begun"),
    ],
)
def test_rm_refuses_what_the_daemon_holds_and_list_shows_it(
    env: Mapping[str, str],
    store: BlobStore,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
    role: str,
    why: str,
) -> None:
    path = str(store.blob_path(file_digest(tmp_path / "tiny.gguf")))
    during = role in ("loading", "leaving")
    status = {
        "model": {"path": str(guide_path()) if during else path},
        "engine": {"state": engine},
        "models": [{"name": "tiny", "path": path, "role": role}] if during else [],
    }

    def script(talk: Talk) -> None:
        talk.greet("loading")
        talk.expect(Status)
        talk.say(StatusReply(status))
        talk.expect_end()

    here = InProcess(capsys, monkeypatch)
    with fake_daemon(tmp_path / "rm", script) as at:
        done = here.run("models", "rm", "tiny", env=env, socket=at)
    with fake_daemon(tmp_path / "list", script) as at:
        listed = here.run("models", "list", "--json", env=env, socket=at)

    assert done.returncode == Exit.REQUEST_FAILED
    assert f"tiny {why}" in done.stderr
    assert "(in_use)" in done.stderr
    assert store.names() == ["tiny"]
    guide, tiny = json.loads(listed.stdout)
    assert tiny["role"] == (role or engine)
    assert tiny["loaded"] == (role == "resident")
    assert guide["loaded"] == during


@pytest.mark.llama
def test_a_stored_model_is_loaded_by_its_name_and_cannot_be_removed_then(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BlobStore(tmp_path / "models")
    import_file(store, str(guide_path()), name="mine")
    with running_daemon(
        QWEND_ENGINE_BACKEND="llama", QWEND_MODEL_NAME="mine", STATE_DIRECTORY=str(tmp_path)
    ) as daemon:
        wait_until(lambda: daemon.status()["state"] in ("ready", "degraded"), "it is ready")
        # What runs differs from what is configured: only the daemon can say so.
        env = {name: value for name, value in daemon.env.items() if name != "QWEND_MODEL_NAME"}
        done = InProcess(capsys, monkeypatch).run(
            "models", "rm", "mine", env=env, socket=daemon.socket
        )

        assert daemon.status()["model"]["name"] == "mine"
    assert done.returncode == Exit.REQUEST_FAILED
    assert "mine is what the daemon answers with; choose another first" in done.stderr
    assert "`qwenctl use NAME`" in done.stderr
    assert store.names() == ["mine"]


def test_whose_store_it_is_follows_from_the_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    systems, own = tmp_path / "system", tmp_path / "own"
    monkeypatch.setattr("qwend.cli.models.place.SYSTEM_SOCKET", systems)
    monkeypatch.setattr("os.geteuid", lambda: 1000)

    assert place.euid_behind(str(systems)) == 1000  # there is none: it would be this person's
    systems.touch()
    assert (place.euid_behind(str(systems)), place.euid_behind(str(own))) == (0, 1000)
    assert place.is_for_me_alone(str(systems))
    assert not place.is_for_me_alone(str(own))


def test_verify_finds_one_changed_byte_and_takes_the_model_out_of_use(
    models: Models, store: BlobStore
) -> None:
    assert models("verify").returncode == Exit.DONE
    manifest = store.manifest("tiny")
    assert manifest is not None
    blob = store.blob_path(manifest.sha256)
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(data)

    done = models("verify", "tiny")

    assert done.returncode == Exit.REQUEST_FAILED
    assert "damaged" in done.stderr
    assert manifest.sha256 in done.stderr
    assert not blob.exists()
    assert "its file is missing" in models("verify").stderr


def test_gc_says_what_it_removed(models: Models, store: BlobStore) -> None:
    (store.models_dir / "store" / "blobs" / ("a" * 64)).write_bytes(bytes(3 << 20))

    assert models("gc").stdout == "1 file removed; 3 MiB are free again.\n"


def test_import_takes_a_name_and_a_digest(models: Models, file: Path) -> None:
    assert models("import", str(file), "--name", "other").returncode == Exit.DONE
    wrong = models("import", str(file), "--sha256", "a" * 64)

    assert wrong.returncode == Exit.REQUEST_FAILED
    assert "(wrong_bytes)" in wrong.stderr
    assert models("import", str(file), "--sha256", "abc").returncode == Exit.USAGE


def test_amounts_are_short() -> None:
    assert (mebi(5 << 20), mebi(3 << 29)) == ("5 MiB", "1.5 GiB")
    assert (parameters(494_032_768), parameters(2_000_000), parameters(0)) == ("0.5 B", "2 M", "")
