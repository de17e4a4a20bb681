"""The metadata of values: what is written is read, anything else is refused."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import settings
from tensorboard.compat.proto import summary_pb2

from tb_batchview import metadata
from tb_batchview.errors import FormatError, VersionError
from tb_batchview.metadata import Content, Status, parse_content, parse_status
from tb_batchview.records import OutputSpec

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
FIELDS = ["version", "kind", "phase", "output", "layer", "fields", "outputs", "run"]


def test_header_content_is_what_the_document_shows():
    content = metadata.header_content(
        "train",
        ("epoch", "loss"),
        {"probabilities": OutputSpec("multiclass", 2, None, ("0", "1"))},
        {"model": "sequential"},
    )
    assert json.loads(content) == {
        "version": 1,
        "kind": "header",
        "phase": "train",
        "fields": ["epoch", "loss"],
        "outputs": {
            "probabilities": {"task": "multiclass", "classes": 2, "activation": None, "class_names": ["0", "1"]}
        },
        "run": {"model": "sequential"},
    }


def test_contents_are_read_back():
    outputs = {"ö": OutputSpec("multilabel", 2, "sigmoid", ("a", "b")), "r": OutputSpec("regression", 0)}
    assert parse_content(metadata.header_content("train", ("epoch",), outputs, {"a": "b"})) == Content(
        1, "header", "train", fields=("epoch",), outputs=outputs, run={"a": "b"}
    )
    assert parse_content(metadata.output_content("predict", "o", "target")) == Content(1, "target", "predict", "o")
    assert parse_content(metadata.layer_content("validation", "l/1", "layer_summary")) == Content(
        1, "layer_summary", "validation", layer="l/1"
    )
    assert parse_content(metadata.status_content()) == Content(1, "status")


def test_summary_metadata_names_the_plugin_and_the_class():
    parsed = metadata.summary_metadata(b"{}")
    assert parsed == summary_pb2.SummaryMetadata(
        plugin_data={"plugin_name": "batchview", "content": b"{}"}, data_class=summary_pb2.DATA_CLASS_TENSOR
    )


def test_newer_version_is_refused_with_both_numbers():
    with pytest.raises(VersionError, match=r"at most 1, .* version=2"):
        parse_content(b'{"version": 2, "kind": {"new": "shape"}}')


def test_unknown_kinds_and_fields_are_let_through():
    assert parse_content(b'{"version": 1, "kind": "smell", "colour": [1], "run": {"n": 3}}') == Content(1, "smell")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe{}",
        b"[" * 200_000,
        b'{"a":' * 100_000,
        b'{"version": ' + b"9" * 10_000 + b', "kind": "header"}',
        b'{"version": true, "kind": "header"}',
        b'{"version": 0, "kind": "header"}',
        b'{"version": -1, "kind": "header"}',
        b'{"version": 1.0, "kind": "header"}',
        b'{"kind": "header"}',
        b'{"version": 1}',
        b'{"version": 1, "kind": 3}',
        b'{"version": 1, "kind": "header", "phase": "../etc"}',
        b'{"version": 1, "kind": "header", "fields": [1]}',
        b'{"version": 1, "kind": "header", "outputs": []}',
        b'{"version": 1, "kind": "header", "outputs": {"a": []}}',
        b'{"version": 1, "kind": "header", "outputs": {"a": {"task": "cooking", "classes": 1}}}',
        b'{"version": 1, "kind": "header", "outputs": {"a": {"task": "binary", "classes": -1}}}',
        b'{"version": 1, "kind": "header", "outputs": {"a": {"task": "binary", "classes": 1e400}}}',
        b'{"version": 1, "kind": "header", "outputs": {"a": {"task": "binary", "classes": 2, "activation": "tanh"}}}',
        b'{"version": 1, "kind": "header", "outputs": {"a": {"task": "binary", "classes": 2, "class_names": ["a"]}}}',
        b'{"version": 1, "kind": "header", "outputs": {"a": {"task": "binary", "classes": 2, "class_names": "ab"}}}',
        b'{"version": 1, "kind": "header", "run": []}',
        b" " * (metadata.MAX_CONTENT_BYTES + 1),
    ],
    ids=lambda content: str(content[:40]),
)
def test_garbage_is_a_format_error(content: bytes):
    with pytest.raises(FormatError) as error:
        parse_content(content)
    assert len(str(error.value)) < 400


@settings(max_examples=200)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(content: bytes):
    with contextlib.suppress(FormatError):
        assert isinstance(parse_content(content), Content)


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(FIELDS), json_values))
def test_any_json_is_read_or_refused(parsed: dict[str, Any]):
    try:
        content = parse_content(json.dumps({"version": 1, "kind": "header", **parsed}).encode())
    except FormatError:
        return
    assert isinstance(content.kind, str)
    assert all(isinstance(spec, OutputSpec) for spec in content.outputs.values())


def test_status_is_read_back():
    status = Status("capture", "Ünlesbar \ud800", 3, {"train": 720})
    text = metadata.status_text(status)
    assert parse_status(text) == Status("capture", "Ünlesbar ?", 3, {"train": 720})
    assert parse_status(text.decode()) == parse_status(text)


def test_half_a_surrogate_pair_is_replaced():
    assert parse_content(b'{"version": 1, "kind": "a\\ud800b\\u00fc"}').kind == "a?bü"


@pytest.mark.parametrize("text", [b"", b"[]", b'{"kind": 1}', b'{"kind": "x", "seen": {"train": "many"}}'])
def test_status_of_garbage_is_a_format_error(text: bytes):
    with pytest.raises(FormatError):
        parse_status(text)


def test_file_names_are_in_the_order_of_writing():
    names = [
        metadata.file_name(999_999_999, "host", 1, 0),
        metadata.file_name(1_780_000_000, "host", 1, 9),
        metadata.file_name(1_780_000_000, "host", 1, 10),
    ]
    assert names == sorted(names)
    assert all(map(metadata.is_event_file, names))
    assert metadata.file_seconds(names[1]) == 1_780_000_000


def test_file_name_of_an_odd_host_stays_in_its_directory():
    assert metadata.file_name(1, "../a b", 2, 3) == "events.out.tfevents.0000000001..._a_b.2.0003.batchview"


@pytest.mark.parametrize(
    "name", ["events.out.tfevents.1.host.2.3.v2", "x.batchview", "events.out.tfevents.1.batchview"]
)
def test_foreign_files_are_not_ours(name: str):
    assert not metadata.is_event_file(name)


def test_tags():
    assert metadata.header_tag("train") == "train/header"
    assert metadata.output_tag("train", "out", "target") == "train/outputs/out/target"
    assert metadata.layer_tag("train", "dense", "layer_histogram") == "train/layers/dense/histogram"
