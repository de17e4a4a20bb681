"""A directory of a remote store, through fsspec: what is there, and parts of it.

Called by `mirror`. Calls nothing of ours but `address`. fsspec is imported when a
remote directory is first looked at: who reads local directories needs none.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

from tb_batchview.address import hide_secrets
from tb_batchview.errors import RemoteError

# A walk through folders ends at some point.
MAX_DIRECTORIES = 100_000
# Of the text of an error: some are whole pages.
_MOST_TEXT = 300
# What tells that a file was written anew; each store has its own.
_VERSIONS = ("ETag", "etag", "generation", "md5Hash", "content_md5", "VersionId", "ino")
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "modified", "created")


class Found(NamedTuple):
    """A file of the store.

    Attributes:
        path: As the store calls it.
        name: Below the directory, with `/` between folders; not trusted.
        size: Bytes.
        version: What is another one once the file was written anew.
        modified: When it was written, in seconds; NaN where nobody knows.
    """

    path: str
    name: str
    size: int
    version: tuple[str, ...]
    modified: float


class Part(NamedTuple):
    """A stretch of a file of the store, from `start` up to `stop`."""

    path: str
    start: int
    stop: int


class Bucket:
    """A directory of a remote store.

    Attributes:
        url: As the user gave it, without secrets.
    """

    def __init__(self, url: str) -> None:
        """Remember the address; nothing is opened yet."""
        self._url = url
        self.url = hide_secrets(url)
        self._opened: tuple[Any, str] | None = None

    def find_files(self) -> list[Found] | None:
        """Return all files below the directory, None if there is no such.

        Raises:
            RemoteError: What is there is not known.
        """
        try:
            store, root = self._open()
            # Some stores remember what they listed.
            store.invalidate_cache()
            infos = _find(store, root)
            if infos is None:
                return None
            return [found for info in infos if (found := _describe(store, root, info)) is not None]
        except RemoteError:
            raise
        except Exception as error:
            raise RemoteError(f"{self.url} could not be looked at: {self.explain(error)}.") from error

    def read(self, parts: Sequence[Part]) -> list[bytes | Exception]:
        """Return parts of files, several at once where the store can.

        One may be shorter than asked for, if the file has shrunk; what could
        not be read is the error.
        """
        try:
            store, _ = self._open()
            paths, starts, stops = (list(column) for column in zip(*parts, strict=True))
            # One by one the store's own way for one is the better known.
            if len(parts) == 1:
                contents = [store.cat_file(paths[0], start=starts[0], end=stops[0])]
            else:
                contents = store.cat_ranges(paths, starts, stops, on_error="return")
        except Exception as error:
            return [error] * len(parts)
        return [_clip(content, part) for content, part in zip(contents, parts, strict=True)]

    def explain(self, error: BaseException) -> str:
        """Return an error as it may be shown."""
        text = " ".join(str(error).replace(self._url, self.url).split())
        return f"{type(error).__name__}: {hide_secrets(text)[:_MOST_TEXT]}".rstrip(".: ")

    def _open(self) -> tuple[Any, str]:
        """Return the store, and what it calls the directory."""
        if self._opened is None:
            try:
                from fsspec.core import url_to_fs
            except ImportError as error:
                raise RemoteError(
                    f"{self.url} is read through fsspec. Received: no module {error.name!r}. "
                    'Install it: pip install "tb_batchview[remote]".'
                ) from error
            try:
                # Not one that others share, whose listings it would have to forget.
                self._opened = url_to_fs(self._url, skip_instance_cache=True)
            except ImportError as error:
                raise RemoteError(
                    f"{self.url} needs the package of its store. Received: {self.explain(error)}. "
                    "Install it: s3fs for s3://, gcsfs for gs://, adlfs for az://."
                ) from error
            except ValueError as error:
                raise RemoteError(
                    f"{self.url} must be of a store that fsspec knows, such as s3:// or gs://. "
                    f"Received: {self.explain(error)}."
                ) from error
        return self._opened


def _find(store: Any, root: str) -> list[Mapping[str, Any]] | None:
    """Return what the store tells of each file, None without directory."""
    if _walks(store):
        return _walk(store, root)
    try:
        found, vanished = list(store.find(root, detail=True).values()), False
    except FileNotFoundError:
        found, vanished = [], True
    if not found:
        # An empty directory, none, or one that may not be read?
        try:
            there = store.ls(root, detail=False)
        except FileNotFoundError:
            return None
        if there and vanished:
            raise OSError("it changed while it was looked at")
    return found


def _walk(store: Any, root: str) -> list[Mapping[str, Any]] | None:
    """Return what is in each folder, and in those in it.

    The store's own way passes by what it may not read: that would look
    deleted.
    """
    found: list[Mapping[str, Any]] = []
    seen: set[str] = set()
    stack = [root]
    while stack and len(seen) < MAX_DIRECTORIES:
        folder = stack.pop()
        seen.add(folder)
        try:
            infos = store.ls(folder, detail=True)
        except FileNotFoundError:
            if folder == root:
                return None
            continue  # deleted meanwhile
        for info in infos:
            if info.get("type") != "directory":
                found.append(info)
            elif info["name"] not in seen and info["name"].startswith(root):
                stack.append(info["name"])
    return found


def _walks(store: Any) -> bool:
    """Tell whether a store lists folder by folder, rather than all at once."""
    from fsspec.asyn import AsyncFileSystem
    from fsspec.spec import AbstractFileSystem

    if isinstance(store, AsyncFileSystem):
        return type(store)._find is AsyncFileSystem._find
    return type(store).find is AbstractFileSystem.find


def _describe(store: Any, root: str, info: Mapping[str, Any]) -> Found | None:
    """Return a file, None for what is none."""
    path = str(info.get("name", ""))
    folder = root.rstrip("/") + "/"
    if info.get("type", "file") != "file" or not path.startswith(folder):
        return None
    size = info.get("size")
    if size is None and ".batchview" in path:
        # Over HTTP a listing has names alone.
        info = {**info, **store.info(path)}
        size = info.get("size")
    version = tuple(f"{key}={info[key]}" for key in (*_VERSIONS, *_TIMES) if info.get(key) is not None)
    times = (_seconds(info[key]) for key in _TIMES if info.get(key) is not None)
    name = path[len(folder) :]
    if path.startswith(("http://", "https://")):
        name = unquote(name)
    return Found(path, name, int(size or 0), version, next(times, math.nan))


def _seconds(time: object) -> float:
    """Return a time of any kind in seconds since 1970, NaN if it is none."""
    try:
        if isinstance(time, str):
            time = datetime.datetime.fromisoformat(time.replace("Z", "+00:00"))
        seconds = time.timestamp() if isinstance(time, datetime.datetime) else float(time)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return seconds if 0 < seconds < 1e11 else math.nan


def _clip(content: bytes | Exception, part: Part) -> bytes | Exception:
    """Take the part out of a whole file: some servers give nothing less."""
    if isinstance(content, Exception) or len(content) <= part.stop - part.start:
        return content
    return content[part.start : part.stop]
