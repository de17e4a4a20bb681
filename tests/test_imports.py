"""Who may import whom: the two arms meet only in the event format."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parent.parent / "tb_batchview"

FACTS = {"address", "errors", "metadata", "records", "tasks", "version"}  # what both arms share
READING = FACTS | {
    "analysis",
    "blocks",
    "bucket",
    "calibration",
    "columns",
    "decode",
    "gradients",
    "histograms",
    "index",
}
READING |= {"kept", "mirror"}
READING |= {"layers", "layouts", "log", "places", "rollups", "running", "samples", "store", "tfrecord", "views"}
READING |= {"batches", "dynamics", "following", "identity", "inputs", "lookup", "maps", "run", "scans", "summaries"}
WRITING = FACTS | {"arguments", "earlier", "encode", "eventfile", "handoff", "objects", "specs", "storage"}
WRITING |= {"tfrecord", "thumbnails"}
LIGHT_TENSORBOARD = {
    "tensorboard.backend.http_util",
    "tensorboard.context",
    "tensorboard.data.provider",
    "tensorboard.errors",
    "tensorboard.plugin_util",
    "tensorboard.plugins.base_plugin",
    "tensorboard.util.tb_logging",
}
PROTO = {"tensorboard.compat.proto"}
KERAS = {"keras", "tensorflow", "jax", "torch"}

# module (or package): (which of ours, which of others) it may import, besides numpy and the standard library.
TABLE: dict[str, tuple[set[str], set[str]]] = {
    "version": (set(), set()),
    "address": (set(), set()),
    "errors": (set(), set()),
    "records": ({"errors"}, set()),
    "tasks": ({"errors", "records"}, set()),
    "metadata": (FACTS, PROTO),
    "tfrecord": ({"errors"}, {"crc32c"}),
    "encode": (FACTS, PROTO),
    "decode": (FACTS, PROTO),
    "analysis": (FACTS, set()),
    "seriation": (set(), set()),
    "layouts": (FACTS | {"decode", "tfrecord"}, set()),
    "blocks": (FACTS | {"layouts", "tfrecord"}, set()),
    "index": (FACTS | {"blocks", "decode", "layouts", "tfrecord"}, set()),
    "places": (FACTS | {"decode", "index", "layouts", "tfrecord"}, set()),
    "inputs": (FACTS | {"decode", "places", "tfrecord"}, set()),
    "growing": (set(), set()),
    "calibration": (FACTS | {"analysis"}, set()),
    "running": (FACTS | {"analysis"}, set()),
    "identity": ({"errors"}, set()),
    "dynamics": (set(), set()),
    "views": (FACTS | {"analysis", "calibration", "identity", "index", "layouts", "order", "places", "running"}, set()),
    "order": (set(), set()),
    "columns": (FACTS | {"blocks", "growing", "identity", "layouts", "order", "running", "views"}, set()),
    "samples": (FACTS | {"analysis", "dynamics", "identity", "views"}, set()),
    "shards": (FACTS | {"growing", "order", "views"}, set()),
    "store": (FACTS | {"blocks", "columns", "index", "layouts", "shards", "views"}, set()),
    "bucket": ({"address", "errors"}, {"fsspec"}),
    "scratch": (set(), set()),
    "copies": (FACTS | {"bucket", "index", "scratch"}, set()),
    "mirror": (FACTS | {"bucket", "copies", "scratch"}, set()),
    "histograms": (set(), set()),
    "kept": (set(), set()),
    "turns": (set(), set()),
    "rollups": (FACTS | {"analysis", "decode", "histograms", "kept", "layouts", "places", "views"}, set()),
    "summaries": (FACTS | {"analysis", "histograms", "rollups", "views"}, set()),
    "layers": (FACTS | {"places", "rollups", "summaries", "views"}, set()),
    "gradients": (FACTS | {"places", "rollups", "summaries", "views"}, set()),
    "lookup": (FACTS | {"views"}, set()),
    "maps": (FACTS | {"decode", "places"}, set()),
    "following": (FACTS | {"dynamics", "identity", "inputs", "places", "views"}, set()),
    "batches": (FACTS | {"following", "gradients", "inputs", "layers", "lookup", "places", "views"}, set()),
    "scans": (FACTS | {"analysis", "calibration", "lookup", "places", "views"}, set()),
    "run": (
        FACTS
        | {"analysis", "batches", "calibration", "decode", "dynamics", "following", "gradients", "identity", "inputs"}
        | {"layers", "lookup", "places", "scans", "store", "views"},
        {"pandas"},
    ),
    "log": (FACTS | {"bucket", "index", "lookup", "maps", "mirror", "places", "run", "store"}, set()),
    "loader": ({"plugin", "metadata", "errors"}, LIGHT_TENSORBOARD | {"tensorboard.compat"}),
    "http": ({"errors"}, LIGHT_TENSORBOARD | {"werkzeug"}),
    "comparison": (FACTS | {"analysis"}, set()),
    "answers": (READING | {"comparison", "http", "seriation"}, set()),
    "score_answers": (READING | {"answers", "http"}, set()),
    "join_answers": (READING | {"answers", "comparison", "http"}, set()),
    "layer_answers": (READING | {"answers", "http"}, set()),
    "confine": (set(), set()),
    "pictures": ({"confine", "errors", "http", "kept"}, {"PIL"}),
    "input_answers": (READING | {"answers", "checks", "http", "pictures"}, set()),
    "refresher": ({"log"}, set()),
    "rebuilt": (FACTS | {"encode", "tfrecord"}, set()),
    "provider": (FACTS | {"encode", "rebuilt"}, {"tensorboard.data.provider"}),
    "sources": ({"log", "mirror", "provider", "refresher"}, {"tensorboard.plugin_util"}),
    "plugin": (
        READING
        | {"answers", "checks", "downloads", "export", "http", "input_answers", "join_answers", "layer_answers"}
        | {"pictures", "score_answers", "sources", "turns"},
        LIGHT_TENSORBOARD | {"werkzeug"},
    ),
    "export": (READING, {"pyarrow"}),
    "downloads": ({"export"}, LIGHT_TENSORBOARD | {"werkzeug"}),
    "progress": (set(), {"click"}),
    "checks": (READING, set()),
    "cli": (READING | {"checks", "export", "progress"}, {"click"}),
    "tagging": (set(), set()),
    "capture": (FACTS | {"ids", "tagging"}, KERAS),
    "ids": ({"capture", "errors", "records"}, set()),
    "handoff": (set(), set()),
    "objects": (FACTS, {"fsspec"}),
    "segments": ({"address", "eventfile", "objects"}, set()),
    "storage": (FACTS | {"decode", "earlier", "eventfile", "objects", "segments", "tfrecord"}, set()),
    "arguments": (FACTS | {"encode", "objects", "thumbnails"}, set()),
    "thumbnails": (FACTS, {"PIL"}),
    "specs": (FACTS, set()),
    "eventfile": (FACTS | {"encode", "tfrecord"}, set()),
    "earlier": (FACTS | {"decode", "eventfile", "tfrecord"}, set()),
    "writer": (WRITING, set()),
    "callback": (FACTS | {"capture", "writer"}, KERAS),
    "feeds": ({"errors"}, KERAS),
    # What it returns is read: the one place where the arms meet.
    "predictions": (FACTS | {"arguments", "capture", "feeds", "log", "objects", "run", "writer"}, KERAS),
    "__init__": ({"callback", "ids", "log", "predictions", "tagging", "version", "writer"}, set()),
    "__main__": ({"cli"}, set()),
}


class Import(NamedTuple):
    name: str
    lazy: bool  # inside a function: no part in a cycle at import time
    typing: bool  # below `if TYPE_CHECKING`: not run at all


def list_imports(path: Path) -> list[Import]:
    def visit(node: ast.AST, lazy: bool, typing: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, lazy, typing) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno}: imports are absolute"
            yield from (Import(f"{node.module}.{alias.name}", lazy, typing) for alias in node.names)
        function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        guard = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, lazy or function, typing or guard)

    return list(visit(ast.parse(path.read_text(encoding="utf-8")), False, False))


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def resolve(name: str) -> str | None:
    """Return our module that `name` (a module, or something in one) means."""
    parts = name.split(".")
    if parts[0] != "tb_batchview":
        return None
    for stop in range(len(parts), 1, -1):
        if ".".join(parts[1:stop]) in MODULES:
            return ".".join(parts[1:stop])
    return "__init__"


def starts_with_one_of(name: str, prefixes: set[str]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_module_imports_only_what_the_table_allows(module: str) -> None:
    group = module.split(".")[0]
    assert group in TABLE, f"tb_batchview/{group} must stand in the table of this test"
    ours, others = TABLE[group]
    wrong = []
    for item in list_imports(MODULES[module]):
        target = resolve(item.name)
        if target is not None:
            if target.split(".")[0] not in ours | {group}:
                wrong.append(item.name)
        elif item.name.split(".")[0] not in sys.stdlib_module_names and not starts_with_one_of(
            item.name, others | {"numpy"}
        ):
            wrong.append(item.name)

    assert wrong == []


def test_no_cycles_among_modules() -> None:
    edges = {
        module: sorted(
            {
                target
                for item in list_imports(path)
                if not item.lazy and not item.typing and (target := resolve(item.name)) not in (None, module)
            }
        )
        for module, path in MODULES.items()
    }
    # A package's __init__ runs before its modules; an import of one of them from it is no cycle.
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " → ".join((*trail[trail.index(module) :], module))
        if module not in done:
            for target in edges[module]:
                visit(target, (*trail, module))
            done.add(module)

    for module in edges:
        visit(module, ())


@pytest.mark.parametrize(
    "module",
    [f"tb_batchview{name}" for name in ("", ".cli", ".loader", ".log", ".plugin", ".writer")],
)
def test_importing_without_tensorflow_and_keras(module: str, loaded: Callable[[str], set[str]]) -> None:
    found = {name.split(".")[0] for name in loaded(f"import {module}")}

    assert "tb_batchview" in found
    assert found & {"tensorflow", "keras", "tf_keras", "torch", "jax", "pandas"} == set()


def test_importing_the_package_loads_no_dependency(loaded: Callable[[str], set[str]]) -> None:
    found = {name.split(".")[0] for name in loaded("import tb_batchview")}

    assert found - set(sys.stdlib_module_names) == {"tb_batchview"}


def test_public_names_resolve_and_are_listed() -> None:
    import tb_batchview

    resolved = {name: getattr(tb_batchview, name) for name in tb_batchview.__all__}

    assert None not in resolved.values()
    assert set(tb_batchview.__all__) <= set(dir(tb_batchview))


@pytest.mark.parametrize("missing", ["keras", "tensorflow"])
def test_without_keras_or_its_backend_the_error_says_what_to_use(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import tb_batchview

    def fail(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.delitem(vars(tb_batchview), "BatchViewCallback", raising=False)
    monkeypatch.setattr(tb_batchview.importlib, "import_module", fail)

    with pytest.raises(ImportError, match=f"no module '{missing}'. Install it: pip install {missing}. BatchWriter"):
        from tb_batchview import BatchViewCallback  # noqa: F401


def test_unknown_name_is_an_attribute_error() -> None:
    import tb_batchview

    with pytest.raises(AttributeError, match="module 'tb_batchview' has no attribute 'nothing'"):
        _ = tb_batchview.nothing
