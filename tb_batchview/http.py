"""What all routes share: reading parameters, writing JSON and array answers.

Called by `plugin`. docs/http-api.md, section "Common to all routes", in code.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import struct
import zlib
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tensorboard import errors
from tensorboard.backend import http_util
from werkzeug import wrappers
from werkzeug.datastructures import Headers, MultiDict

Array = npt.NDArray[Any]

ARRAY_MAGIC = b"BVA1"
ARRAY_DTYPES = ("float32", "float64", "int32", "uint32", "uint16", "uint8")
MAX_TEXT = 4096  # characters of a parameter
_WHOLE = re.compile(r"[0-9]{1,15}", re.ASCII)  # up to 2**49: exact in a browser's numbers
_DECIMAL = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][-+]?[0-9]{1,3})?", re.ASCII)
_GZIP_FROM = 1024  # bytes below which compressing costs more than it saves
_GZIP_FORM = 16 + zlib.MAX_WBITS
_LARGE = 1 << 16  # bytes from which on an answer is compressed quickly rather than well


class Picture(NamedTuple):
    """A picture as a browser takes it."""

    content: bytes
    content_type: str


class _Unchanged(wrappers.Response):
    """An answer that names its type also where it is 304.

    TensorBoard complains of each that does not.
    """

    def get_wsgi_headers(self, environ: dict[str, Any]) -> Headers:
        """Return the headers as they are sent."""
        headers = super().get_wsgi_headers(environ)
        headers.setdefault("Content-Type", self.content_type)
        return headers


class MethodNotAllowedError(errors.PublicError):
    """A method other than GET and HEAD was asked for."""

    http_code = 405

    def __init__(self, method: str) -> None:
        super().__init__(f"Method not allowed: the method must be GET. Received: {method!r}.")
        self.headers = [("Allow", "GET, HEAD")]


class Parameters:
    """The parameters of a request, each at most once and known by name.

    Attributes:
        experiment: Whose runs it is about; "" where there is no choice.
    """

    def __init__(
        self, arguments: Mapping[str, str] | MultiDict[str, str], known: Collection[str], experiment: str = ""
    ) -> None:
        """Check the names.

        Args:
            arguments: As werkzeug parsed them, or a plain mapping.
            known: What the route takes.
            experiment: As TensorBoard has it of the address.

        Raises:
            errors.InvalidArgumentError: One is unknown, twice or too long.
        """
        self.experiment = experiment
        self._texts: dict[str, str] = {}
        items = arguments.items(multi=True) if isinstance(arguments, MultiDict) else arguments.items()
        for name, text in items:
            if name not in known:
                raise wrong(f"parameters must be of {', '.join(known)}. Received: {name[:80]!r}.")
            if name in self._texts:
                raise wrong(f"{name} must be given once. Received: it is there twice.")
            if len(text) > MAX_TEXT:
                raise wrong(f"{name} must have at most {MAX_TEXT} characters. Received: {len(text)}.")
            self._texts[name] = text

    def __contains__(self, name: str) -> bool:
        return bool(self._texts.get(name))

    @property
    def given(self) -> tuple[tuple[str, str], ...]:
        """Return those that are not left out, in one order."""
        return tuple(sorted((name, text) for name, text in self._texts.items() if text))

    def text(self, name: str) -> str:
        """Return a text that must be there."""
        if name not in self:
            raise wrong(f"{name} must be given. Received: none.")
        return self._texts[name]

    def optional_text(self, name: str) -> str | None:
        """Return a text, None when it is left out or empty."""
        return self._texts.get(name) or None

    def choice(self, name: str, choices: Collection[str], default: str) -> str:
        """Return one of several words."""
        text = self._texts.get(name) or default
        if text not in choices:
            raise wrong(f"{name} must be one of {', '.join(choices)}. Received: {name}={text[:80]!r}.")
        return text

    def whole(self, name: str, *, default: int | None = None, low: int = 0, high: int = 10**15) -> int:
        """Return a number from `low` to `high`; without default it must be there."""
        if name not in self and default is not None:
            return default
        value = self.optional_whole(name, low=low, high=high)
        if value is None:
            raise wrong(f"{name} must be given. Received: none.")
        return value

    def optional_whole(self, name: str, *, low: int = 0, high: int = 10**15) -> int | None:
        """Return a number from `low` to `high`, None when it is left out."""
        if name not in self:
            return None
        text = self._texts[name]
        if not _WHOLE.fullmatch(text) or not low <= int(text) <= high:
            raise wrong(f"{name} must be a whole number from {low} to {high}. Received: {name}={text[:80]!r}.")
        return int(text)

    def optional_number(self, name: str) -> float | None:
        """Return a finite decimal number, None when it is left out."""
        if name not in self:
            return None
        text = self._texts[name]
        if not _DECIMAL.fullmatch(text) or not math.isfinite(float(text)):
            raise wrong(f"{name} must be a decimal number. Received: {name}={text[:80]!r}.")
        return float(text)

    def optional_range(self, name: str) -> tuple[float | None, float | None]:
        """Return `<name>_min` and `<name>_max`, None where left out."""
        low, high = self.optional_number(f"{name}_min"), self.optional_number(f"{name}_max")
        if low is not None and high is not None and low > high:
            raise wrong(
                f"{name}_min must not be greater than {name}_max. Received: {name}_min={low:g}, {name}_max={high:g}."
            )
        return low, high

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return whether a flag is 1; it must be 0 or 1."""
        return self.choice(name, ("0", "1"), "1" if default else "0") == "1"


def wrong(sentence: str) -> errors.InvalidArgumentError:
    """Return the error for a parameter that is missing or wrong: 400."""
    return errors.InvalidArgumentError(sentence)


def missing(sentence: str) -> errors.NotFoundError:
    """Return the error for something that is not there: 404."""
    return errors.NotFoundError(sentence)


def to_json(answer: Mapping[str, Any]) -> str:
    """Return an answer as JSON; what is not finite as a string."""
    try:
        return json.dumps(answer, allow_nan=False)
    except ValueError:
        # A walk through every value: only where it must be.
        return json.dumps(_name_nonfinite(answer), allow_nan=False)


def _name_nonfinite(value: Any) -> Any:
    """Return an answer with names for the numbers that JSON has not."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {name: _name_nonfinite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_name_nonfinite(item) for item in value]
    return value


def pack_arrays(header: Mapping[str, Any], arrays: Mapping[str, Array]) -> bytes:
    """Return an array answer: header and arrays in one block of bytes."""
    described, blocks, offset = [], [], 0
    for name, array in arrays.items():
        if array.dtype.name not in ARRAY_DTYPES:
            raise TypeError(f"{name} must be of {', '.join(ARRAY_DTYPES)}. Received: dtype={array.dtype}.")
        described.append({"name": name, "dtype": array.dtype.name, "shape": list(array.shape), "offset": offset})
        block = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        blocks.append(block + bytes(-len(block) % 8))
        offset += len(blocks[-1])
    text = to_json({**header, "arrays": described}).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return b"".join([ARRAY_MAGIC, struct.pack("<I", len(text)), text, *blocks])


def unpack_arrays(block: bytes) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return header and arrays of an array answer."""
    magic, length = block[:4], struct.unpack_from("<I", block, 4)[0]
    if magic != ARRAY_MAGIC:
        raise ValueError(f"An array answer must begin with {ARRAY_MAGIC!r}. Received: {magic!r}.")
    header = json.loads(block[8 : 8 + length])
    arrays = {}
    for item in header.pop("arrays"):
        dtype = np.dtype(item["dtype"]).newbyteorder("<")
        count = int(np.prod(item["shape"], dtype=np.int64))
        arrays[item["name"]] = np.frombuffer(block, dtype, count, 8 + length + item["offset"]).reshape(item["shape"])
    return header, arrays


@dataclasses.dataclass(frozen=True)
class Body:
    """An answer as it is sent.

    Attributes:
        lasts: Whether it is seldom another when it is asked for again.
    """

    content: bytes
    content_type: str
    gzipped: bool
    lasts: bool = False


def takes_gzip(request: wrappers.Request) -> bool:
    """Tell whether the client takes what is gzipped."""
    return request.accept_encodings.quality("gzip") > 0


def pack(answer: Mapping[str, Any] | bytes | Picture, *, gzipped: bool) -> Body:
    """Return an answer as it is sent; pictures and small ones as they are."""
    if isinstance(answer, Picture):
        return Body(answer.content, answer.content_type, gzipped=False, lasts=True)
    arrays = isinstance(answer, bytes)
    content = answer if isinstance(answer, bytes) else to_json(answer).encode()
    gzipped = gzipped and len(content) >= _GZIP_FROM
    if gzipped:
        content = _gzip(content, _array_strategy(content) if arrays else zlib.Z_DEFAULT_STRATEGY)
    return Body(content, "application/octet-stream" if arrays else "application/json", gzipped)


def _array_strategy(content: bytes) -> int:
    """Return how arrays are compressed.

    In many numbers there is little that comes again but zeros: to look for
    more than runs of them takes three times as long, and of counts the result
    is larger. Where few are zero, to look for runs is in vain, too.
    """
    zeros = len(content) - np.count_nonzero(np.frombuffer(content, np.uint8))
    return zlib.Z_RLE if 4 * zeros > len(content) else zlib.Z_HUFFMAN_ONLY


def _gzip(content: bytes, strategy: int) -> bytes:
    """Compress an answer; the same one gives the same bytes."""
    large = len(content) >= _LARGE
    packer = zlib.compressobj(
        1 if large else 3, zlib.DEFLATED, _GZIP_FORM, strategy=strategy if large else zlib.Z_DEFAULT_STRATEGY
    )
    return packer.compress(content) + packer.flush()


def respond(request: wrappers.Request, body: Body) -> wrappers.Response:
    """Send an answer."""
    if body.lasts:
        return _respond_lasting(request, body)
    return _respond(request, body.content, body.content_type, content_encoding="gzip" if body.gzipped else None)


def _respond_lasting(request: wrappers.Request, body: Body) -> wrappers.Response:
    """Send an answer; of one that the browser has, only that it has it.

    It asks each time: another training may have the same name, and another
    TensorBoard the same address.
    """
    # Pages of others could embed it, and learn its size.
    headers = [("Cross-Origin-Resource-Policy", "same-origin")]
    response = _Unchanged.force_type(_respond(request, body.content, body.content_type, headers=headers))
    response.set_etag(hashlib.sha256(body.content).hexdigest()[:32])
    response.make_conditional(request)
    return response


def respond_file(request: wrappers.Request, content: bytes, content_type: str) -> wrappers.Response:
    """Send a file of the frontend; the browser asks again each time."""
    return _respond(request, content, content_type)


def _respond(request: wrappers.Request, content: str | bytes, content_type: str, **more: Any) -> wrappers.Response:
    response: wrappers.Response = http_util.Respond(request, content, content_type, **more)
    return response
