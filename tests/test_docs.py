"""The prose is true: links, commands, code blocks, messages, versions."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tb_batchview.version import __version__
from tests.prose import FENCE, ROOT, name_of, read_blocks, run_blocks

FOLDERS = (".", "docs", "docs/guides", "tb_batchview_frontend")
PAGES = sorted(page for folder in FOLDERS for page in (ROOT / folder).glob("*.md"))
MODULES = sorted((ROOT / "tb_batchview").rglob("*.py"))
WARNING_CALLS = {"_complain", "complain", "warn", "warning"}


def read_anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_resolve(page: Path) -> None:
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"https?://|mailto:", link):
            continue
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or (anchor and anchor not in read_anchors(file)):
            broken.append(link)

    assert broken == []


def test_gallery_shows_every_picture_that_is_taken() -> None:
    """`make screens` takes them; the gallery is looked at over the network."""
    pytest.importorskip("playwright")
    from browser.screens import PICTURES, THEMES

    shown = re.findall(r"!\[[^\]]+\]\(images/([^)]+)\)", (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8"))
    sizes = {file.name: file.stat().st_size for file in (ROOT / "docs" / "images").iterdir()}

    assert shown == [f"{name}-{theme}.webp" for name in PICTURES for theme in THEMES]
    assert set(sizes) == set(shown)
    assert max(sizes.values()) < 150_000
    assert sum(sizes.values()) < 6_000_000


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_in_prose_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))

    # In code only: prose may say "make sure".
    mentioned = set(re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE))

    assert mentioned - targets == set()


def test_readme_names_files_that_exist() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `([\w./-]+)`", readme, re.MULTILINE)

    assert len(named) >= 5, "the map of the folders is missing"
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_readme_is_about_five_hundred_words() -> None:
    words = FENCE.sub("", (ROOT / "README.md").read_text(encoding="utf-8")).split()

    assert 300 <= len(words) <= 700


def test_python_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All blocks, one after the other, with a model and samples at hand."""
    import keras
    import numpy as np

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(96, 4)).astype("float32"), rng.integers(0, 3, 96)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    names: dict[str, Any] = {"x": x, "y": y, "model": model}

    run_blocks(ROOT / "README.md", names, capsys)

    assert len(read_blocks(ROOT / "README.md", "python")) >= 2
    assert "log" in names, "README.md must show load()"


def record_runs_of_the_docs() -> None:
    """Record what docs/python.md reads: below logs, in the current directory."""
    import keras
    import numpy as np

    from tb_batchview import BatchViewCallback, BatchWriter

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(90, 4)).astype("float32"), np.arange(90) % 3
    options: dict[str, Any] = {"batch_size": 16, "verbose": 0, "shuffle": False}
    layers = keras.layers
    hidden = layers.Dense(8, activation="relu", name="hidden")
    model = keras.Sequential([keras.Input((4,)), hidden, layers.Dense(3, activation="softmax", name="scores")])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    callback = BatchViewCallback("logs/first", class_names=["cat", "dog", "fox"], gradients=True, histogram_freq=5)
    model.fit(x, y, epochs=3, validation_data=(x[:24], y[:24]), callbacks=[callback], **options)

    inputs = keras.Input((4,))
    heads = {"kind": layers.Dense(3, activation="softmax", name="kind"), "size": layers.Dense(1, name="size")}
    several = keras.Model(inputs, {name: layer(inputs) for name, layer in heads.items()})
    several.compile("sgd", {"kind": "sparse_categorical_crossentropy", "size": "mse"})
    callback = BatchViewCallback("logs/heads", class_names={"kind": ["cat", "dog", "fox"]})
    several.fit(x, {"kind": y, "size": x[:, :1]}, callbacks=[callback], **options)

    # Side by side, as processes are: one that begins later goes on with the steps.
    with ExitStack() as stack:
        writers = [stack.enter_context(BatchWriter("logs/workers", worker=number, workers=2)) for number in range(2)]
        for worker, writer in enumerate(writers):
            ids = [f"w{worker}_a", f"w{worker}_b"]
            writer.add_batch(predictions=np.eye(3)[:2], targets=[0, 1], loss=0.5, sample_ids=ids)


def test_python_of_the_reading_page_runs_and_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All blocks, one after the other, on recorded runs."""
    monkeypatch.chdir(tmp_path)
    record_runs_of_the_docs()
    names: dict[str, Any] = {}

    wanted = run_blocks(ROOT / "docs" / "python.md", names, capsys)

    assert len(wanted) >= 30
    assert len(names["seen"]) == 4


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_and_json_of_the_docs_are_well_formed(page: Path) -> None:
    for block in read_blocks(page, "python"):
        compile(block, page.name, "exec")
    for block in read_blocks(page, "json"):
        decoder, rest = json.JSONDecoder(), block.strip()
        while rest:  # a block may hold several values
            _, end = decoder.raw_decode(rest)
            rest = rest[end:].strip()


def test_changelog_has_the_version_and_room_for_the_next() -> None:
    headings = re.findall(r"^## \[?([\w.]+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert headings[0] == "Unreleased"
    assert __version__ in headings


# -- messages ----------------------------------------------------------------------------------------------------------


def render(node: ast.expr) -> str | None:
    """Return a message as written in the source, with … for what is filled in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(render(part) or "…" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return (render(node.left) or "…") + (render(node.right) or "…")
    return None


def list_messages(path: Path) -> Iterator[tuple[int, str]]:
    """Find what is raised, warned or logged, and all other texts that read as a sentence."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and isinstance(node.body[0], ast.Expr)
    }

    def visit(node: ast.AST, said: bool) -> Iterator[tuple[int, str]]:
        if id(node) in docstrings:
            return
        if isinstance(node, ast.expr) and (text := render(node)) is not None:
            text = " ".join(text.replace("%s", "…").split())
            words = len(re.findall(r"\w+", text.replace("…", " ")))
            # One or two words are a kind or a name; without a space it is code.
            if words > 2 and " " in text and (said or text.endswith(".") or "Received:" in text):
                yield node.lineno, text
            return
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            said = said or name in WARNING_CALLS
        for child in ast.iter_child_nodes(node):
            yield from visit(child, said or isinstance(node, ast.Raise))

    yield from visit(tree, False)


def test_every_message_is_listed() -> None:
    listed = " ".join((ROOT / "docs" / "messages.md").read_text(encoding="utf-8").replace("\\|", "|").split())

    missing = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path in MODULES
        for line, text in list_messages(path)
        if text not in listed
    ]

    assert missing == []


# -- the source --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_docstrings_begin_with_a_short_line(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    first_lines = [
        docstring.splitlines()[0]
        for node in ast.walk(tree)
        if isinstance(node, kinds) and (docstring := ast.get_docstring(node))
    ]

    assert ast.get_docstring(tree), "a module says its job"
    assert [line for line in first_lines[1:] if len(line) > 72] == []


def test_no_path_of_a_machine_is_mentioned() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    pattern = re.compile(r"/(?:work|root|Users|tmp/\w+)/|/home/(?!ada/)")
    texts = {".py", ".md", ".ts", ".mjs", ".json", ".toml", ".in", ".css", ""}
    found = [
        f"{name}: {match.group()}"
        for name in listed.stdout.split()
        if Path(name).suffix in texts and name != "tests/test_docs.py" and (ROOT / name).is_file()
        for match in [pattern.search((ROOT / name).read_text(encoding="utf-8"))]
        if match
    ]

    assert found == []
