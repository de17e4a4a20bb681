"""The exceptions of tb_batchview; every message is listed in docs/messages.md."""

from __future__ import annotations

_MOST_SHOWN = 200  # characters


def in_brief(value: object) -> str:
    """Return a value as a message tells it: in one line, not too long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 1]}…"


class BatchViewError(Exception):
    """Base class of every error that tb_batchview raises on purpose."""


class ArgumentError(BatchViewError, ValueError):
    """An argument is not what it must be."""


class FormatError(BatchViewError):
    """Bytes on disk are not what docs/data-format.md says."""


class VersionError(FormatError):
    """A file was written in a newer format than this version reads."""


class NotFoundError(BatchViewError, KeyError):
    """A run, phase, output, batch or layer does not exist."""

    def __str__(self) -> str:
        # KeyError would show the message in quotes.
        return str(self.args[0]) if self.args else ""


class RemoteError(BatchViewError, OSError):
    """A remote directory cannot be reached, or its store refuses."""


class BatchViewWarning(UserWarning):
    """Something could not be recorded; training goes on."""
