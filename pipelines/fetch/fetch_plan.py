"""What a fetch brings and where it goes: made once before it starts, kept on disk, carried out by
`fetching`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from email.message import Message
from pathlib import PurePosixPath
from typing import Any, Literal, Self
from urllib.parse import unquote, urlsplit

from pipelines.fetch import hub as hubs
from pipelines.fetch import hub_files, reaching, transfer
from pipelines.fetch.catalogue import CatalogueRow
from pipelines.fetch.hub import PICKLES, WEIGHTS, Address, Hub, Listing, RemoteFile
from pipelines.fetch.problems import FetchProblem

FOLDERS: Mapping[str, str] = {
    "checkpoint": "checkpoints",
    "diffusion model": "diffusion_models",
    "lora": "loras",
    "controlnet": "controlnets",
    "adapter": "controlnets",
    "vae": "vae",
    "embedding": "embeddings",
    "text encoder": "text_encoders",
    "upscaler": "upscalers",
}
"""Sort of a file -> its folder below models/; a sort that nobody can tell goes into models/ itself."""
_CIVITAI_SORTS: Mapping[str, str] = {
    "Checkpoint": "checkpoint",
    "LORA": "lora",
    "LoCon": "lora",
    "DoRA": "lora",
    "TextualInversion": "embedding",
    "Controlnet": "controlnet",
    "VAE": "vae",
    "Upscaler": "upscaler",
}
_GENERIC = frozenset({"pytorch_lora_weights", "diffusion_pytorch_model", "model", "adapter_model"})
"""Names of files that say nothing outside of their repository."""


@dataclass(frozen=True)
class Item:
    """One file of a plan. name: relative, with slashes. size: bytes, 0 if not known. blob: its name in the
    cache. text: what it holds, where it is not fetched but written here."""

    url: str
    name: str
    size: int = 0
    checksum: str = ""
    blob: str = ""
    text: str = ""


@dataclass(frozen=True)
class Plan:
    """Everything a fetch needs to know, without secrets. place: the Hugging Face cache or the models folder.

    name: of the file or folder it becomes there. folder: it becomes a folder. sort: "" where only the file's
    header will tell.
    """

    id: str
    title: str
    sort: str
    place: Literal["cache", "models"]
    name: str
    items: tuple[Item, ...]
    folder: bool = False
    repo: str = ""
    revision: str = ""
    commit: str = ""
    licence: str = ""
    licence_url: str = ""
    gated: bool = False

    @property
    def bytes(self) -> int:
        """Bytes of all its files; 0 where one of them is not known."""
        sizes = [item.size for item in self.items if not item.text]
        return sum(sizes) if all(sizes) else 0

    def to_json(self) -> dict[str, Any]:
        """The plan as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Self:
        """The plan that `to_json` gave. Raises TypeError or KeyError for anything else."""
        return cls(**{**told, "items": tuple(Item(**item) for item in told["items"])})


def make(
    address: Address,
    hub: Hub,
    *,
    row: CatalogueRow | None = None,
    token: str = "",
    sort: str = "",
    pickles: bool = False,
) -> Plan:
    """Asks the servers what there is at `address` and what of it is needed. Raises `FetchProblem`."""
    if address.url:
        return _plan_url(address, token, sort, pickles, hub.host)
    listing = hub.listing(address.repo, address.revision, token)
    if address.file:
        return _plan_file(address, listing, hub, row, sort, pickles)
    if row is not None and row.joins:
        return _plan_joined(listing, hub, row, token)
    if listing.named("model_index.json"):
        return _plan_pipeline(address, listing, hub, row, token, pickles)
    if listing.named("config.json"):
        config = hub.json(listing, "config.json", token)
        files = hub_files.needed(listing, {}, pickles) if config else ()
        told = sort or (row.sort if row else "") or _sort_of_config(config)
        if told in FOLDERS and any(PurePosixPath(file.name).suffix in WEIGHTS | PICKLES for file in files):
            items = [_item(listing, hub, file, file.name) for file in files]
            return _of_repo(address, listing, row, items, sort=told, place="models")
    allowed = WEIGHTS | PICKLES if pickles else WEIGHTS
    found = [file.name for file in listing.files if PurePosixPath(file.name).suffix.lower() in allowed]
    if len(found) == 1:
        only = Address(repo=address.repo, revision=address.revision, file=found[0])
        return _plan_file(only, listing, hub, row, sort, pickles)
    if found:
        several = ", ".join(found[:6]) + (" and more" if len(found) > 6 else "")
        raise FetchProblem(
            f"{address.repo} holds {len(found)} models: {several}. "
            f"Name one of them: {address.repo}/{found[0]}."
        )
    pickled = any(PurePosixPath(file.name).suffix.lower() in PICKLES for file in listing.files)
    raise FetchProblem(
        f"{address.repo} holds only pickle files, which can execute what they like while they are read. "
        "Ask for pickles expressly to fetch them all the same; they are read without executing."
        if pickled
        else f"{address.repo} holds no weights that Darkroom can use."
    )


def _sort_of_config(config: Mapping[str, Any]) -> str:
    """Sort of the model that a diffusers or transformers config.json describes; "" where it is none of
    ours."""
    name = str(config.get("_class_name") or (config.get("architectures") or [""])[0])
    if "ControlNet" in name:
        return "controlnet"
    if "Adapter" in name:
        return "adapter"
    if name.startswith(("Autoencoder", "AsymmetricAutoencoder", "VQModel")):
        return "vae"
    if name.endswith(("Transformer2DModel", "UNet2DConditionModel", "TransformerModel")):
        return "diffusion model"
    return "text encoder" if name.endswith(("TextModel", "TextModelWithProjection", "T5EncoderModel")) else ""


def _plan_pipeline(
    address: Address, listing: Listing, hub: Hub, row: CatalogueRow | None, token: str, pickles: bool
) -> Plan:
    """A whole pipeline: into the cache as it is, or into the models folder where its layout has to be
    mended."""
    known = bool(token) or hub.signed_in()
    index = hub.json(listing, "model_index.json", token) if known or not listing.gated else {}
    files = hub_files.needed(listing, index, pickles)
    if hub_files.is_loose(listing, index):
        names = {file.name: hub_files.place_in_folder(index, file.name) for file in files}
        items = [_item(listing, hub, file, names[file.name]) for file in files]
        return _of_repo(address, listing, row, items, sort="model", place="models")
    items = [_item(listing, hub, file, file.name) for file in files]
    return _of_repo(address, listing, row, items, sort="model", place="cache")


def _plan_joined(listing: Listing, hub: Hub, row: CatalogueRow, token: str) -> Plan:
    """A pipeline that its makers have spread over repositories: one folder, with a model_index.json of its
    own."""
    index: dict[str, Any] = {"_class_name": row.pipeline}
    items: list[Item] = []
    for prefix, repo in {"": row.id, **row.joins}.items():
        part = hub.listing(repo, "", token) if prefix else listing
        told = hub.json(part, "model_index.json", token)
        index |= {prefix + name: told[name] for name in hub_files.components(told)}
        items += [
            _item(part, hub, file, prefix + file.name)
            for file in hub_files.needed(part, told)
            if file.name != "model_index.json"
        ]
    items.append(Item("", "model_index.json", text=json.dumps(index, indent=2)))
    address = Address(repo=row.id)
    return replace(_of_repo(address, listing, row, items, sort="model", place="models"), name=row.key)


def _of_repo(
    address: Address,
    listing: Listing,
    row: CatalogueRow | None,
    items: Iterable[Item],
    *,
    sort: str,
    place: Literal["cache", "models"],
) -> Plan:
    items = tuple(items)
    if not any(PurePosixPath(item.name).suffix in WEIGHTS | PICKLES for item in items):
        raise FetchProblem(f"{listing.repo} holds no weights that Darkroom can use.")
    name = listing.repo.rpartition("/")[2]
    return _plan(address, listing, row, sort=sort, place=place, name=name, items=items, folder=True)


def _plan_file(
    address: Address, listing: Listing, hub: Hub, row: CatalogueRow | None, sort: str, pickles: bool
) -> Plan:
    found = listing.named(address.file)
    if found is None:
        raise FetchProblem(f"{address.repo} holds no file called {address.file[:80]}.")
    _check_suffix(address.file, pickles)
    name = local_name(address.repo, address.file)
    told = sort or (row.sort if row else "")
    items = (_item(listing, hub, found, name),)
    return _plan(address, listing, row, sort=told, place="models", name=name, items=items)


def _plan(address: Address, listing: Listing, row: CatalogueRow | None, **told: Any) -> Plan:
    return Plan(
        id=row.key if row else address.id,
        title=row.title if row else told["name"].removesuffix(".safetensors"),
        repo=listing.repo,
        revision=listing.revision,
        commit=listing.commit,
        licence=row.licence if row else listing.licence,
        licence_url=row.licence_url if row else listing.licence_url,
        gated=listing.gated,
        **told,
    )


def _item(listing: Listing, hub: Hub, file: RemoteFile, name: str) -> Item:
    url = hub.url(listing.repo, listing.commit, file.name)
    return Item(url, name, file.size, file.checksum, file.etag)


def local_name(repo: str, file: str) -> str:
    """What one file of a repository is called in the models folder: its own name, or its repository's where
    that says nothing."""
    path = PurePosixPath(file)
    return repo.rpartition("/")[2] + path.suffix if path.stem in _GENERIC else path.name


def _check_suffix(name: str, pickles: bool) -> None:
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in PICKLES and not pickles:
        raise FetchProblem(
            f"{name[:80]} is a pickle file, which can execute what it likes while it is read. Look for a "
            ".safetensors file, or ask for pickles expressly; they are read without executing."
        )
    if suffix not in WEIGHTS | PICKLES:
        kinds = ", ".join(sorted(WEIGHTS))
        raise FetchProblem(f"{name[:80]!r} is no file of weights: Darkroom fetches {kinds}.")


def _plan_url(address: Address, token: str, sort: str, pickles: bool, home: str) -> Plan:
    headers = url_headers(token)
    try:
        told = transfer.ask(address.url, headers, home)
    except Exception as error:
        raise url_problem(error, bool(token)) from None
    name = _file_name(told.disposition) or unquote(PurePosixPath(urlsplit(address.url).path).name)
    name = hubs.checked_name(PurePosixPath(name.replace("\\", "/")).name or "file")
    _check_suffix(name, pickles)
    size, title, licence_page, checksum = told.size, PurePosixPath(name).stem, "", ""
    if address.version:
        about = _civitai(address, headers, home)
        model = about.get("model") or {}
        same: dict[str, Any] = next(
            (file for file in about.get("files") or () if file.get("name") == name), {}
        )
        digest = str((same.get("hashes") or {}).get("SHA256") or "").lower()
        checksum = f"sha256:{digest}" if len(digest) == 64 else ""
        title = f"{model['name']} {about.get('name') or ''}".strip() if model.get("name") else title
        sort = sort or _CIVITAI_SORTS.get(str(model.get("type")), "")
        if str(about.get("modelId", "")).isdigit():
            parts = urlsplit(address.url)
            licence_page = f"{parts.scheme}://{parts.netloc}/models/{about['modelId']}"
    items = (Item(address.url, name, size, checksum),)
    return Plan(address.id, title, sort, "models", name, items, licence_url=licence_page)


def url_headers(token: str) -> dict[str, str]:
    """What a request to an address outside the hub sends; httpx drops the token where it is led to another
    host."""
    return {"Authorization": f"Bearer {token}"} if token else {}


def url_problem(error: Exception, known: bool) -> FetchProblem:
    """The sentence for what went wrong at an address outside the hub; other errors are raised on."""
    import httpx2
    from huggingface_hub import errors

    if isinstance(error, transfer.Refused) and error.status in (401, 403):
        also = "The token that was given does not open it." if known else "Give one for this site."
        return FetchProblem(f"This address wants an access token. {also}", wants_token=True)
    if isinstance(error, transfer.Refused) and error.status == 404:
        return FetchProblem("There is no file at this address.")
    if isinstance(error, FetchProblem):
        return error
    if isinstance(error, errors.OfflineModeIsEnabled):
        return FetchProblem(
            "Fetching is switched off: HF_HUB_OFFLINE is set. Start without it to fetch models."
        )
    if isinstance(error, httpx2.HTTPError | httpx2.InvalidURL):
        return FetchProblem("This address cannot be reached. Look at it and at the network, then try again.")
    raise error


def _civitai(address: Address, headers: Mapping[str, str], home: str) -> dict[str, Any]:
    """What Civitai tells about the file's model version: its sort, name and checksums; {} where it tells
    nothing, and the fetch goes on without."""
    import httpx2

    parts = urlsplit(address.url)
    about = f"{parts.scheme}://{parts.netloc}/api/v1/model-versions/{address.version}"
    try:
        with reaching.opened(about, headers, home) as response:
            response.read()
        found = response.json() if response.status_code == 200 else {}
    except (httpx2.HTTPError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _file_name(disposition: str) -> str:
    """The file name in a Content-Disposition header, both ways of writing it; "" where there is none."""
    if not disposition:
        return ""
    message = Message()
    message["Content-Disposition"] = disposition
    return message.get_filename("") or ""
