"""ModelScope, the hub that is near in China: what it says of a file.

Owns the one question that is asked, as the modelscope package asks it: the list of a repository's
files, with the size and the SHA-256 of each. Qwen's repositories have the same names there, and so
have unsloth's. Environment, as that package reads it: MODELSCOPE_DOMAIN.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from qwend.models.pull.failure import Again, Never
from qwend.models.pull.source import MOST_METADATA_BYTES, RemoteFile, check_status
from qwend.models.pull.web import Web
from qwend.models.reference import DIGEST

ENDPOINT = "https://modelscope.cn"
_BRANCH = "master"


@dataclass(frozen=True, slots=True)
class ModelScope:
    web: Web
    repository: str
    endpoint: str = ENDPOINT

    @property
    def name(self) -> str:
        return self.endpoint.partition("://")[2]

    def find(self, file: str) -> RemoteFile:
        """Raises: Again, Never."""
        is_plain = self.endpoint.startswith("http://")
        url = (
            f"{self.endpoint}/api/v1/models/{self.repository}/repo/files"
            f"?Revision={_BRANCH}&Recursive=true"
        )
        with self.web.ask(url, plain_http=is_plain) as answer:
            check_status(answer, f"list of the files of {self.repository}")
            data = answer.read_text(MOST_METADATA_BYTES)
        try:
            entry = next(
                (each for each in json.loads(data)["Data"]["Files"] if each["Path"] == file), None
            )
            sha256 = str(entry["Sha256"]).lower() if entry else ""
            size = entry.get("Size") if entry else None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise Again(f"{self.name} does not list its files as ModelScope does") from error
        if entry is None:
            raise Never(f"{self.name} has no {self.repository}/{file}", code="not_found")
        if not DIGEST.fullmatch(sha256):
            raise Never(f"{self.name} does not say what the SHA-256 of {file} is", code="no_digest")
        return RemoteFile(
            f"{self.endpoint}/models/{self.repository}/resolve/{_BRANCH}/{quote(file)}",
            sha256,
            size if isinstance(size, int) and size > 0 else None,
            _BRANCH,
            plain_http=is_plain,
        )


def endpoint_from(environ: Mapping[str, str]) -> str:
    domain = environ.get("MODELSCOPE_DOMAIN", "").rstrip("/")
    if not domain:
        return ENDPOINT
    return domain if "://" in domain else f"https://{domain}"
