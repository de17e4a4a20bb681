"""The guides are true: what a page shows runs as it stands, and prints what it says.

A page whose first line is `<!-- backend: jax -->` runs with Keras on JAX only, as in `make test-backends`; all others
with Keras on TensorFlow. It may name several: `<!-- backend: jax, torch -->`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.prose import GUIDES, read_blocks, run_blocks

BACKEND = os.environ.get("KERAS_BACKEND", "tensorflow")
INDEX = GUIDES / "README.md"
PAGES = sorted(set(GUIDES.glob("*.md")) - {INDEX})


def list_backends(page: Path) -> set[str]:
    first = page.read_text(encoding="utf-8").split("\n", 1)[0]
    named = re.fullmatch(r"<!-- backend: ([a-z, ]+) -->", first)
    return set(named[1].split(", ")) if named else {"tensorflow"}


def name_of(page: Path) -> str:
    return page.stem


@pytest.fixture
def main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Begin as a script of the user's does: in an empty directory, with Keras as new."""
    import keras

    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    policy = keras.config.dtype_policy()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    module = ModuleType("__main__")
    # What a page defines can be pickled, for other processes.
    monkeypatch.setitem(sys.modules, "__main__", module)
    yield module
    keras.config.set_dtype_policy(policy)
    keras.utils.clear_session()


# Keras says so of every dataset, since it takes its own default for the user's wish.
@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed")
@pytest.mark.parametrize("page", [page for page in PAGES if BACKEND in list_backends(page)], ids=name_of)
def test_a_guide_runs_and_prints_what_it_says(page: Path, main: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    run_blocks(page, vars(main), capsys)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_guide_has_a_title_code_and_a_backend_to_run_with(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()

    assert list_backends(page) <= {"tensorflow", "jax", "torch"}
    assert lines[lines[0].startswith("<!--")].startswith("# ")
    assert read_blocks(page, "python")


def test_every_guide_is_in_the_index_once_with_a_line_of_its_own() -> None:
    listed = re.findall(r"^- \[[^\]]+\]\(([\w-]+\.md)\): \S", INDEX.read_text(encoding="utf-8"), re.MULTILINE)

    assert sorted(listed) == [page.name for page in PAGES]


@pytest.mark.parametrize("block", ["print(1 + 1)  # → 3", "x = 2  # → 2", "print(2)  # → 2\nprint(3)  # → 2", "1 / 0"])
def test_a_page_that_is_not_true_is_found(block: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n```python\nprint(2)  # → 2\n```\n\n```python\n{block}\n```\n")

    with pytest.raises((AssertionError, ZeroDivisionError)):
        run_blocks(page, {}, capsys)
