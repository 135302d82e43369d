"""The Hugging Face hub: what a person may type for a model, what a repository holds, and who may have it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from pipelines.fetch import reaching
from pipelines.fetch.problems import FetchProblem
from pipelines.fetch.reaching import TIMEOUT, origin, says_inside
from pipelines.fetch.transfer import Refused

WEIGHTS = frozenset({".safetensors", ".sft", ".gguf"})
"""Suffixes of files that hold weights and nothing that could be executed."""
PICKLES = frozenset({".bin", ".ckpt", ".pt", ".pth"})
"""Suffixes of weights that Python may execute while reading them: fetched only where asked for by name."""
SECRETS = frozenset({"token", "api_key", "apikey", "access_token", "key"})
"""Parameters of addresses that carry an access token."""
LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_CIVITAI_FILE = re.compile(r"/api/download/models/(\d+)")


@dataclass(frozen=True)
class Address:
    """What a person typed, understood: a repository (and perhaps one file of it), or any other address.

    repo, revision, file: of the hub; url: of a file anywhere else, without the token it may have carried.
    version: Civitai's number of the file's model version, "" elsewhere.
    """

    repo: str = ""
    revision: str = ""
    file: str = ""
    url: str = ""
    version: str = ""
    token: str = field(default="", repr=False)

    @property
    def id(self) -> str:
        """The address as text that `parse` reads again; holds no token."""
        if self.url:
            return self.url
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.repo}{revision}" + (f"/{self.file}" if self.file else "")


def parse(text: str, endpoint: str = "https://huggingface.co") -> Address:
    """The address in `text`: "owner/name", "owner/name@revision", "owner/name/file.safetensors", a page of
    the hub or of Civitai, or any file's https address. Raises `FetchProblem` for what is none of these."""
    text = text.strip()
    if "://" in text:
        return _parse_url(text, endpoint)
    head, at, revision = text.partition("@")
    if at:
        revision, _, file = revision.partition("/")
        head = f"{head}/{file}" if file else head
    owner, _, rest = head.partition("/")
    name, _, file = rest.partition("/")
    repo = f"{owner}/{name}"
    if not _REPO.fullmatch(repo) or ".." in repo or (at and not re.fullmatch(r"[\w.-]+", revision)):
        raise FetchProblem(
            f"{text[:80]!r} names nothing that can be fetched: give owner/name of the Hugging Face hub, "
            "or the https address of a file."
        )
    return Address(repo=repo, revision=revision, file=checked_name(file) if file else "")


def _parse_url(text: str, endpoint: str) -> Address:
    parts = urlsplit(text)
    host = (parts.hostname or "").lower()
    if parts.scheme != "https" and not (parts.scheme == "http" and host in LOCAL):
        raise FetchProblem(
            "Only https addresses are fetched: what comes over others may have been exchanged."
        )
    if host != origin(endpoint)[1] and says_inside(host):
        raise FetchProblem(reaching.INSIDE.format("lies"))
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    token = parts.password or next((value for name, value in pairs if name.lower() in SECRETS), "")
    kept = [(name, value) for name, value in pairs if name.lower() not in SECRETS]
    at_hub = host in ("huggingface.co", "hf.co") or origin(text) == origin(endpoint)
    if at_hub and (found := _parse_hub_path(unquote(parts.path))):
        return Address(*found, token=token)
    page = re.fullmatch(r"/models/\d+(?:/[^/]*)?", parts.path)
    if page and host.removeprefix("www.").startswith("civitai."):
        version = dict(kept).get("modelVersionId", "")
        if not version.isdigit():
            raise FetchProblem(
                "This is a model's page with several versions: copy the address behind its Download button."
            )
        clean = f"{parts.scheme}://{host}/api/download/models/{version}"
        return Address(url=clean, version=version, token=token)
    there = f"{host}:{parts.port}" if parts.port else host
    there = f"[{host}]" + (f":{parts.port}" if parts.port else "") if ":" in host else there
    civitai = _CIVITAI_FILE.fullmatch(parts.path)
    clean = urlunsplit((parts.scheme, there, parts.path, urlencode(kept), ""))
    return Address(url=clean, version=civitai[1] if civitai else "", token=token)


def _parse_hub_path(path: str) -> tuple[str, str, str] | None:
    """(repository, revision, file) of a page's path at the hub."""
    parts = [part for part in path.split("/") if part]
    if len(parts) < 2 or not _REPO.fullmatch("/".join(parts[:2])):
        return None
    repo = "/".join(parts[:2])
    if len(parts) == 2:
        return repo, "", ""
    if parts[2] not in ("resolve", "blob", "tree", "raw") or len(parts) < 4:
        return None
    return (
        repo,
        "" if parts[3] == "main" else parts[3],
        checked_name("/".join(parts[4:])) if parts[4:] else "",
    )


def checked_name(name: str) -> str:
    """`name` where it stays inside the folder it is put into; raises `FetchProblem` where it does not."""
    parts = name.split("/")
    bad = any(
        part in ("", ".", "..") or len(part.encode()) > 250 or part.endswith((" ", ".")) for part in parts
    )
    if bad or any(ord(letter) < 32 or letter in '\\:*?"<>|' for letter in name):
        raise FetchProblem(f"The file name {name[:80]!r} is not safe to write: nothing of this is fetched.")
    return name


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository. sha256: of large files, "" for small ones. blob: git's id of it."""

    name: str
    size: int
    sha256: str
    blob: str

    @property
    def etag(self) -> str:
        """The name of its bytes in the Hugging Face cache."""
        return self.sha256 or self.blob

    @property
    def checksum(self) -> str:
        """As `transfer.Source` wants it."""
        return f"sha256:{self.sha256}" if self.sha256 else f"git:{self.blob}" if self.blob else ""


@dataclass(frozen=True)
class Listing:
    """What a repository holds at one commit. licence: as its card names it, "" where it does not."""

    repo: str
    revision: str
    commit: str
    files: tuple[RemoteFile, ...]
    gated: bool = False
    licence: str = ""
    licence_url: str = ""

    def named(self, name: str) -> RemoteFile | None:
        """The file of that name."""
        return next((file for file in self.files if file.name == name), None)


class Hub:
    """Asks one hub. endpoint: its address; None is `HF_ENDPOINT` or huggingface.co."""

    def __init__(self, endpoint: str | None = None):
        self._endpoint = endpoint

    @property
    def endpoint(self) -> str:
        """The hub's address, without a slash at its end."""
        from huggingface_hub import constants

        return (self._endpoint or constants.ENDPOINT).rstrip("/")

    @property
    def host(self) -> str:
        """The host of its address, which the person has chosen: it may be in a network of their own."""
        return origin(self.endpoint)[1]

    def headers(self, token: str) -> dict[str, str]:
        """What a request sends: the typed token, else the one that huggingface_hub knows (HF_TOKEN, its
        store)."""
        from huggingface_hub.utils import build_hf_headers

        return build_hf_headers(token=token or None, library_name="darkroom")

    def signed_in(self) -> bool:
        """Whether huggingface_hub knows a token of this person."""
        from huggingface_hub import get_token

        return bool(get_token())

    def sign_in(self, token: str) -> None:
        """Keeps a token in huggingface_hub's own store, for all programs. Raises `FetchProblem` where the hub
        does not know it."""
        from huggingface_hub import login

        try:
            login(token=token, add_to_git_credential=False)
        except (ValueError, OSError) as error:
            raise FetchProblem(
                "The hub does not know this token, so it was not kept: copy it anew from "
                "https://huggingface.co/settings/tokens.",
                wants_token=True,
            ) from (None if token in str(error) else error)

    def listing(self, repo: str, revision: str = "", token: str = "") -> Listing:
        """What `repo` holds at a branch, tag or commit; "" is its main branch. Raises `FetchProblem`."""
        from huggingface_hub import HfApi

        try:
            info = HfApi(endpoint=self.endpoint, library_name="darkroom").model_info(
                repo, revision=revision or None, files_metadata=True, timeout=TIMEOUT, token=token or None
            )
        except Exception as error:
            raise problem(error, repo, revision, self.signed_in() or bool(token)) from None
        files = tuple(
            RemoteFile(
                checked_name(found.rfilename),
                found.lfs.size if found.lfs else found.size or 0,
                _hex(found.lfs.sha256 if found.lfs else ""),
                _hex(found.blob_id or ""),
            )
            for found in info.siblings or ()
        )
        card = info.card_data.to_dict() if info.card_data else {}
        licence = str(card.get("license_name") or card.get("license") or "")
        return Listing(
            repo,
            revision,
            _hex(info.sha or ""),
            files,
            bool(info.gated),
            licence,
            str(card.get("license_link") or ""),
        )

    def url(self, repo: str, commit: str, name: str) -> str:
        """Where a file's bytes are."""
        from huggingface_hub import hf_hub_url

        return str(hf_hub_url(repo, name, revision=commit, endpoint=self.endpoint))

    def json(self, listing: Listing, name: str, token: str = "") -> dict[str, Any]:
        """A small JSON file of a repository, {} where it has none of that name. Raises `FetchProblem`."""
        from huggingface_hub.utils import hf_raise_for_status

        if listing.named(name) is None:
            return {}
        try:
            address = self.url(listing.repo, listing.commit, name)
            with reaching.opened(address, self.headers(token), self.host) as response:
                response.read()
            hf_raise_for_status(response)
            found = response.json()
        except Exception as error:
            raise problem(error, listing.repo, listing.revision, self.signed_in() or bool(token)) from None
        return found if isinstance(found, dict) else {}


def _hex(text: str) -> str:
    """A digest or commit as the hub gives it; it becomes a file name, so nothing else may be in it."""
    if not re.fullmatch(r"[0-9a-f]*", text):
        raise FetchProblem("The hub's answer is not as it should be: a checksum in it is none.")
    return text


def problem(error: Exception, repo: str, revision: str = "", known: bool = False) -> FetchProblem:
    """The sentence for what went wrong at the hub; an error that is none of the hub's or the network's is
    raised on. known: a token was sent along."""
    import httpx2
    from huggingface_hub import errors

    if isinstance(error, FetchProblem) and not isinstance(error, Refused):
        return error
    status, code = 0, ""
    if isinstance(error, Refused):
        status, code = error.status, error.code
    elif isinstance(error, errors.HfHubHTTPError):
        told = error.response.headers
        status, code = error.response.status_code, told.get("X-Error-Code") or told.get("X-Error-Message", "")
    if code.startswith("Invalid credentials"):
        return FetchProblem(
            "The hub does not know your access token: copy it anew from https://huggingface.co/settings/tokens.",
            wants_token=True,
        )
    if isinstance(error, errors.GatedRepoError) or code == "GatedRepo":
        return gated(repo, known)
    if isinstance(error, errors.RevisionNotFoundError) or code == "RevisionNotFound":
        return FetchProblem(f"{repo} has no revision called {revision[:60]!r}.")
    if isinstance(error, errors.EntryNotFoundError) or code == "EntryNotFound":
        return FetchProblem(f"{repo} does not hold this file any more.")
    if isinstance(error, errors.RepositoryNotFoundError | errors.HFValidationError) or status in (401, 404):
        also = "your token does not open it" if known else "it is private and wants an access token"
        return FetchProblem(
            f"There is no model called {repo} on the hub, or {also}. Look at its spelling.", wants_token=True
        )
    if isinstance(error, errors.OfflineModeIsEnabled):
        return FetchProblem(
            "Fetching is switched off: HF_HUB_OFFLINE is set. Start without it to fetch models."
        )
    if isinstance(error, httpx2.ProxyError):
        return FetchProblem("The proxy does not let this through: look at HTTPS_PROXY.")
    if isinstance(error, httpx2.TransportError):
        return FetchProblem("The hub cannot be reached. Look at the network connection, then try again.")
    if status == 403:
        return FetchProblem(f"Your token may not read {repo}: give one that may.", wants_token=True)
    if status:
        return FetchProblem(f"The hub answers with HTTP status {status}. Try again later.")
    if isinstance(error, ValueError):
        return FetchProblem(
            "The hub's answer cannot be read. If HF_ENDPOINT is set, look at where it points."
        )
    raise error


def gated(repo: str, known: bool) -> FetchProblem:
    """The sentence for a model whose owner wants its terms to be agreed to."""
    page = f"https://huggingface.co/{repo}"
    if known:
        return FetchProblem(
            f"Your token does not open {repo}: agree to its terms at {page} with the same account, "
            "or give another token.",
            wants_token=True,
        )
    return FetchProblem(
        f"{repo} is given only to those who agree to its terms: do so at {page}, then give an access token "
        "(https://huggingface.co/settings/tokens).",
        wants_token=True,
    )
