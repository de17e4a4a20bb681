"""Which directories are remote, and how their addresses may be shown.

Both arms use it; it calls nothing of ours, and loads no fsspec.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

# One letter before the colon would be a drive; simplecache::s3:// is a store seen through another.
_REMOTE = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]+::)*[A-Za-z][A-Za-z0-9+.-]+://")
_SECRET = re.compile(r"(?<=://)[^/@\s]*@")


def is_remote(log_dir: str | os.PathLike[str]) -> bool:
    """Tell whether a directory is one of a remote store."""
    text = os.fspath(log_dir)
    return _REMOTE.match(text) is not None and not text.startswith("file://")


def local_path(log_dir: str | os.PathLike[str]) -> Path:
    """Return the path of a directory that is not remote."""
    text = os.fspath(log_dir)
    return Path(url2pathname(urlsplit(text).path) if text.startswith("file://") else text).expanduser()


def hide_secrets(text: str) -> str:
    """Leave out names and passwords that stand in an address."""
    return _SECRET.sub("…@", text)
