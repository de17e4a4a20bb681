"""What the tests of the documentation share: its pages, their code, and what that prints."""

from __future__ import annotations

import linecache
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
GUIDES = ROOT / "docs" / "guides"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def read_blocks(page: Path, language: str) -> list[str]:
    return [body for name, body in FENCE.findall(page.read_text(encoding="utf-8")) if name == language]


def run_blocks(page: Path, names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Run the Python of a page, all blocks one after the other.

    What a block says that it prints, in a comment `# → …` beside or below a print, must be printed, in this order. What
    was said so is returned.
    """
    wanted = []
    capsys.readouterr()
    for number, block in enumerate(read_blocks(page, "python")):
        # A name by which tracebacks, and what reads the source of functions (AutoGraph), find these lines.
        file = f"{page.name} #{number}"
        linecache.cache[file] = (len(block), None, block.splitlines(keepends=True), file)
        exec(compile(block, file, "exec"), names)
        printed = capsys.readouterr().out.splitlines()
        said = re.findall(r"^ *print\(.*\)(?:  |\n *)# → (.*)$", block, re.MULTILINE)
        assert len(said) == block.count("# →"), "each must belong to a print of one line"
        for text in said:
            assert text in printed, f"{text!r} must be printed. Received: {printed}"
            del printed[: printed.index(text) + 1]
            wanted.append(text)
    return wanted
