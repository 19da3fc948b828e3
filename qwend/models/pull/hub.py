"""Hugging Face, or a mirror that speaks as it does: what it says of a file.

Owns the two questions that are asked, both as huggingface_hub asks them: HEAD of the file's
address, whose answer has the SHA-256 in `X-Linked-Etag`; and the repository's tree, whose entry has
it as the oid of the LFS file, for mirrors that leave that header out. The bytes are fetched by
`transfer`. Environment, as huggingface_hub reads it: HF_ENDPOINT, HF_TOKEN, HF_TOKEN_PATH, HF_HOME.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from qwend.models.pull.failure import Again, Never
from qwend.models.pull.source import MOST_METADATA_BYTES, RemoteFile, check_status
from qwend.models.pull.web import Answer, Web
from qwend.models.reference import DIGEST

ENDPOINT = "https://huggingface.co"
_MOST_TOKEN_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Hub:
    """repository: owner/name. endpoint: without a slash at its end. token: empty for none."""

    web: Web
    repository: str
    revision: str = "main"
    endpoint: str = ENDPOINT
    token: str = ""

    @property
    def name(self) -> str:
        return self.endpoint.partition("://")[2]

    def find(self, file: str) -> RemoteFile:
        """Raises: Again, Never."""
        sha256, size, commit = self._ask_file(file)
        if not sha256:
            sha256, size = self._ask_tree(file, size)
        if not sha256:
            raise Never(
                f"{self.name} does not say what the SHA-256 of {file} is, so it could not be "
                f"checked; give it by its address and with --sha256: {self._url(file)}",
                code="no_digest",
            )
        # A commit does not change while it is fetched; a branch may.
        return RemoteFile(
            self._url(file, commit or self.revision),
            sha256,
            size,
            commit,
            self._secret,
            self._is_plain,
        )

    def _ask_file(self, file: str) -> tuple[str, int | None, str]:
        """SHA-256 and commit, empty where it does not say, and the size."""
        with self._ask(self._url(file), "HEAD") as answer:
            if answer.status in (405, 501):  # a simple mirror
                return "", None, ""
            redirects = 300 <= answer.status < 400
            if not redirects:
                check_status(answer, f"{self.repository}/{file}")
            sha256 = answer.header("X-Linked-Etag").removeprefix("W/").strip('"').lower()
            told = answer.header("X-Linked-Size") or (
                "" if redirects else answer.header("Content-Length")
            )
            commit = answer.header("X-Repo-Commit")
        return (
            sha256 if DIGEST.fullmatch(sha256) else "",
            (int(told) or None) if told.isascii() and told.isdigit() else None,
            commit if commit.isalnum() and commit.isascii() else "",
        )

    def _ask_tree(self, file: str, size: int | None) -> tuple[str, int | None]:
        directory = file.rpartition("/")[0]
        path = f"/{quote(directory)}" if directory else ""
        revision = quote(self.revision, safe="")
        url = f"{self.endpoint}/api/models/{self.repository}/tree/{revision}{path}"
        with self._ask(url, "GET") as answer:
            check_status(answer, f"list of the files of {self.repository}")
            data = answer.read_text(MOST_METADATA_BYTES)
        try:
            entries = json.loads(data)
            for entry in entries:
                if entry["path"] == file:
                    lfs = entry.get("lfs") or {}
                    sha256 = str(lfs.get("oid", "")).removeprefix("sha256:").lower()
                    told = lfs.get("size", entry.get("size"))
                    return (
                        sha256 if DIGEST.fullmatch(sha256) else "",
                        told if isinstance(told, int) and told > 0 else size,
                    )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise Again(f"{self.name} does not list its files as a hub does") from error
        raise Never(f"{self.name} has no {self.repository}/{file}", code="not_found")

    def _ask(self, url: str, method: str) -> Answer:
        return self.web.ask(
            url, method=method, secret=self._secret, plain_http=self._is_plain, stay=True
        )

    def _url(self, file: str, revision: str = "") -> str:
        revision = quote(revision or self.revision, safe="")
        return f"{self.endpoint}/{self.repository}/resolve/{revision}/{quote(file)}"

    @property
    def _secret(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    @property
    def _is_plain(self) -> bool:
        return self.endpoint.startswith("http://")


def endpoint_from(environ: Mapping[str, str]) -> str:
    return (environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")


def token_from(environ: Mapping[str, str]) -> str:
    """As huggingface_hub finds it: the variable, or what `hf auth login` has written."""
    token = environ.get("HF_TOKEN") or environ.get("HUGGING_FACE_HUB_TOKEN") or ""
    if not token:
        home = environ.get("HF_HOME") or f"{environ.get('HOME', '')}/.cache/huggingface"
        path = Path(environ.get("HF_TOKEN_PATH") or f"{home}/token")
        with suppress(OSError), path.open("rb") as file:
            token = file.read(_MOST_TOKEN_BYTES).decode("ascii", "replace")
    token = token.strip()
    return token if token.isascii() and token.isprintable() else ""
