"""The entry point: it loads the plugin, keeps TensorBoard's memory small, and never raises."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboard import program
from tensorboard.plugins import base_plugin
from tensorboard.plugins.core import core_plugin

from tb_batchview import metadata
from tb_batchview.loader import BatchViewLoader


@pytest.mark.parametrize(("given", "expected"), [("", 1), ("batchview=500", 500), ("batchview=0,scalars=7", 0)])
def test_tensorboard_keeps_one_sample_unless_told_otherwise(tmp_path: Path, given: str, expected: int) -> None:
    board = program.TensorBoard(plugins=[core_plugin.CorePluginLoader, BatchViewLoader])

    board.configure(argv=["tensorboard", "--logdir", str(tmp_path), "--samples_per_plugin", given])

    assert board.flags.samples_per_plugin[metadata.PLUGIN_NAME] == expected


@pytest.mark.parametrize(
    "flags",
    [
        argparse.Namespace(),
        argparse.Namespace(samples_per_plugin=None),
        argparse.Namespace(samples_per_plugin="x"),
        None,
    ],
)
def test_flags_of_another_form_are_left_alone(flags: argparse.Namespace | None) -> None:
    before = dict(vars(flags)) if flags is not None else None

    BatchViewLoader().fix_flags(flags)

    assert (dict(vars(flags)) if flags is not None else None) == before


class Unsettable(dict):  # type: ignore[type-arg]
    def setdefault(self, *_: object) -> object:
        raise RuntimeError("not today")


def test_flags_that_cannot_be_set_do_not_end_tensorboard(caplog: pytest.LogCaptureFixture) -> None:
    BatchViewLoader().fix_flags(argparse.Namespace(samples_per_plugin=Unsettable()))

    assert caplog.messages == ["Batch View could not set its flags: RuntimeError: not today"]


def test_the_plugin_is_loaded(tmp_path: Path) -> None:
    plugin = BatchViewLoader().load(base_plugin.TBContext(logdir=str(tmp_path)))

    assert plugin is not None
    assert plugin.plugin_name == "batchview"


def test_a_plugin_that_cannot_be_imported_is_skipped_with_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "tb_batchview.plugin", None)
    caplog.set_level(logging.WARNING)

    assert BatchViewLoader().load(base_plugin.TBContext(logdir="")) is None
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("Batch View is not available: ModuleNotFoundError: ")


def test_the_loader_is_small(loaded: Callable[[str], set[str]]) -> None:
    found = loaded("import tb_batchview.loader")

    assert "tb_batchview.loader" in found
    assert found & {"numpy", "tensorflow", "keras", "tb_batchview.plugin", "werkzeug"} == set()


def test_the_plugin_name_is_the_formats() -> None:
    from tb_batchview import loader

    assert loader._PLUGIN_NAME == metadata.PLUGIN_NAME
