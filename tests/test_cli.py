"""`tb-batchview` on whole, damaged and missing runs: output and exit status."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from terminal import run_at_terminal

from tb_batchview import BatchWriter, checks, cli
from tb_batchview.version import __version__
from tb_batchview.views import Health


def run_cli(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, arguments, prog_name="tb-batchview")


@pytest.fixture
def logdir(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    with BatchWriter(tmp_path / "run", class_names=["cat", "dog", "fox"]) as writer:
        for phase, batches in (("train", 12), ("validation", 3)):
            for _ in range(batches):
                writer.add_batch(
                    phase=phase,
                    predictions=rng.dirichlet(np.ones(3), 8).astype("float32"),
                    targets=rng.integers(0, 3, 8),
                    loss=float(rng.random()),
                    metrics={"accuracy": 0.5},
                    histograms={"dense": rng.normal(size=(8, 4))},
                )
    return tmp_path


def event_file(logdir: Path) -> Path:
    (file,) = (logdir / "run" / "batchview").iterdir()
    return file


def test_inspect_lists_every_phase_of_every_run(logdir: Path) -> None:
    size = checks.format_bytes(event_file(logdir).stat().st_size)

    result = run_cli("inspect", str(logdir))

    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()[1:]] == [
        ["run", "train", "12", "12", "96", "1", "output", "(multiclass,", "3)", *size.split(), "ok"],
        ["run", "validation", "3", "3", "24", "1", "output", "(multiclass,", "3)", *size.split(), "ok"],
    ]
    assert result.stderr == ""


def test_inspect_lists_a_run_of_which_nothing_can_be_read(logdir: Path) -> None:
    file = event_file(logdir)
    file.write_bytes(gzip.compress(file.read_bytes()))
    size = checks.format_bytes(file.stat().st_size)

    result = run_cli("inspect", str(logdir))

    (line,) = result.stdout.splitlines()[1:]
    assert line.split()[:9] == ["run", "-", "0", "0", "0", "0", "-", *size.split()]
    assert line.endswith("  1 corrupt record(s) were left out")


def test_inspect_in_json(logdir: Path) -> None:
    (run,) = json.loads(run_cli("inspect", "--json", str(logdir)).stdout)

    assert run["name"] == "run"
    assert run["phases"][0] == {
        "name": "train",
        "batches": 12,
        "seen": 12,
        "samples": 96,
        "first_step": 0,
        "last_step": 11,
    }
    assert run["metrics"] == ["accuracy"]
    assert run["health"]["bytes"] == event_file(logdir).stat().st_size


def test_inspect_without_runs_fails_and_says_where_to_ask(tmp_path: Path) -> None:
    result = run_cli("inspect", str(tmp_path))

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Nothing is recorded below {tmp_path}. Ask `tb-batchview doctor` why.\n"


def test_missing_directory_is_wrong_usage(tmp_path: Path) -> None:
    for command in ("inspect", "doctor"):
        result = run_cli(command, str(tmp_path / "nothing"))

        assert (result.exit_code, result.stdout) == (2, "")
        assert "does not exist" in result.stderr


def test_doctor_finds_nothing_wrong_with_a_whole_run(logdir: Path) -> None:
    findings = list(checks.check_log(cli.load(logdir), logdir))

    assert [(finding.about, finding.remedy) for finding in findings] == [("run run", "")] * 3
    assert [finding.state for finding in findings[1:]] == ["train: 12 of 12 batches", "validation: 3 of 3 batches"]


def test_doctor_tells_a_torn_end_from_a_fault(logdir: Path) -> None:
    file = event_file(logdir)
    os.truncate(file, file.stat().st_size - 5)

    findings = [finding for finding in checks.check_log(cli.load(logdir), logdir) if "end within" in finding.state]

    assert [finding.remedy for finding in findings] == [""]


def test_doctor_finds_a_corrupt_record(logdir: Path) -> None:
    file = event_file(logdir)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(bytes(content))

    result = run_cli("doctor", str(logdir))

    assert result.exit_code == 1
    assert "!! run run: 1 corrupt record(s) were left out\n   → copy the files again" in result.stdout
    assert result.stderr.endswith("to look at.\n")


def test_doctor_explains_an_empty_directory(tmp_path: Path) -> None:
    result = run_cli("doctor", "--json", str(tmp_path))

    finding = json.loads(result.stdout)[-1]
    assert result.exit_code == 1
    assert finding["about"] == "runs"
    assert f'BatchViewCallback("{tmp_path}/run-1")' in finding["remedy"]


def test_doctor_finds_a_missing_plugin_and_bundle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(checks.metadata, "entry_points", lambda **_: [])
    monkeypatch.setattr(checks, "__file__", str(tmp_path / "checks.py"))

    found = {finding.about: finding.remedy for finding in checks.check_installation()}

    assert "-m pip install tb_batchview" in found["plugin"]
    assert found["frontend"] == "make frontend in a checkout; otherwise install again"


@pytest.mark.parametrize(
    ("tensorboard", "setuptools", "wrong"),
    [("2.20.0", "82.0.1", True), ("2.20.0", "81.0.0", False), ("2.21.0", "84.2.1", False)],
)
def test_doctor_knows_which_setuptools_end_old_tensorboards(
    monkeypatch: pytest.MonkeyPatch, tensorboard: str, setuptools: str, wrong: bool
) -> None:
    versions = {"tensorboard": tensorboard, "setuptools": setuptools}
    monkeypatch.setattr(checks, "_version", lambda package: versions.get(package, ""))

    remedies = [finding.remedy for finding in checks.check_installation() if finding.about == "TensorBoard"]

    assert bool(remedies) == wrong


def test_every_fault_of_a_run_has_a_remedy(logdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = cli.load(logdir)["run"]
    health = Health(
        files=1,
        bytes=10,
        corrupt_records=1,
        torn_files=1,
        refused_files=1,
        dropped_batches=1,
        warnings=(("capture", "A \x1b[31mred\x1b[0m sentence.", 3), ("dropped", "counted above", 1)),
    )
    monkeypatch.setattr(type(run), "health", health)

    states = [finding.state for finding in checks.check_run(run) if finding.remedy]

    assert states == [
        "1 corrupt record(s) were left out",
        "1 file(s) of a newer format were left out",
        "1 batch(es) were dropped while recording",
        "A \\x1b[31mred\\x1b[0m sentence. (3 times)",
    ]


def test_names_from_files_do_not_steer_the_terminal() -> None:
    table = cli.format_table(["run", "batches"], [["evil\x1b[2J\nname", "7"], ["ärger", "12"]])

    assert table == "run                batches\nevil\\x1b[2J\\nname        7\närger                   12"


def test_module_runs_as_the_command(logdir: Path, root: Path) -> None:
    command = [sys.executable, "-m", "tb_batchview", "--version"]

    printed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout

    assert printed == f"tb-batchview, version {__version__}\n"


def test_every_command_is_in_the_readme(root: Path) -> None:
    readme = (root / "README.md").read_text(encoding="utf-8")

    assert [name for name in cli.main.commands if f"tb-batchview {name}" not in readme] == []


# -- wrong usage and bad places ----------------------------------------------------------------------------------------


def run_shell(root: Path, arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the command as a process of its own, through a shell."""
    return subprocess.run(
        ["bash", "-c", f"{sys.executable} -m tb_batchview {arguments}"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,  # type: ignore[call-overload]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspekt", "."], "No such command 'inspekt'."),
        (["inspect"], "Missing argument 'LOGDIR'."),
        (["inspect", ".", "more"], "Got unexpected extra argument (more)"),
        (["doctor", "--jsn", "."], "No such option"),
        (["export", ".", "--out", "a"], "Missing option '--format'."),
        (["export", ".", "--format", "csv"], "Missing option '--out'."),
        (["export", ".", "--format", "csv", "--out", "a", "--start", "x"], "'x' is not a valid integer range."),
        (["inspect", __file__], "is a file."),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what(arguments: list[str], message: str) -> None:
    result = run_cli(*arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


@pytest.mark.parametrize(
    ("arguments", "close"),
    [
        (["--run", "runn", "--phase", "train"], "'run'"),
        (["--run", "logs/run", "--phase", "train"], "'run'"),
        (["--run", "run", "--phase", "tain"], "'train'"),
        (["--run", "run", "--phase", "val"], "'validation'"),
        (["--run", "zzz", "--phase", "train"], None),
    ],
)
def test_a_name_that_is_close_is_suggested(logdir: Path, arguments: list[str], close: str | None) -> None:
    (logdir / "other").symlink_to(logdir / "run")

    result = run_cli("export", str(logdir), "--format", "csv", "--out", str(logdir / "a.csv"), *arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert re.findall(r"Did you mean ('.*')\?", result.stderr) == ([close] if close else [])


def test_a_file_that_cannot_be_read_is_told_and_the_others_are_read(logdir: Path) -> None:
    lost = event_file(logdir).with_name("events.out.tfevents.1.host.1.0.batchview")
    lost.symlink_to(lost)  # as a broken mount, and unlike permissions also for root

    inspected, examined = run_cli("inspect", str(logdir)), run_cli("doctor", str(logdir))

    assert (inspected.exit_code, examined.exit_code) == (0, 1)
    assert len(inspected.stdout.splitlines()) == 3
    assert f"{lost.name} cannot be read: " in inspected.stdout
    assert f"!! run run: {lost.name} cannot be read: " in examined.stdout


def test_the_directory_of_the_files_leads_to_the_run(logdir: Path) -> None:
    result = run_cli("doctor", str(logdir / "run" / "batchview"))

    assert result.exit_code == 1
    assert f"→ tb-batchview doctor {logdir / 'run'}\n" in result.stdout


@pytest.mark.parametrize("command", ["inspect", "inspect --json", "doctor", "doctor --json"])
@pytest.mark.parametrize(("redirect", "message"), [(">/dev/full", "No space left"), (">&-", "stdout is closed")])
def test_a_stdout_that_takes_nothing_is_one_sentence(
    logdir: Path, root: Path, command: str, redirect: str, message: str
) -> None:
    done = run_shell(root, f"{command} {logdir} {redirect}")

    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1), done.stderr
    assert message in done.stderr


@pytest.mark.parametrize("command", ["inspect", "doctor", "--help"])
def test_a_reader_that_stops_is_no_error(logdir: Path, root: Path, command: str) -> None:
    where = "" if command == "--help" else str(logdir)

    assert run_shell(root, f"{command} {where} | true").stderr == ""


def test_nothing_is_said_where_stderr_is_closed(logdir: Path, root: Path) -> None:
    done = run_shell(root, f"export {logdir} --phase train --format csv --out {logdir}/a.csv 2>&-")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len((logdir / "a.csv").read_text().splitlines()) == 1 + 96


@pytest.mark.parametrize("command", ["inspect", "doctor", "export --phase train --format csv --out -"])
def test_pipes_get_no_colours_and_no_bars(logdir: Path, root: Path, command: str) -> None:
    hostile = logdir / "evil\x1b[31m\r\u202ename"
    (logdir / "run").rename(hostile)
    done = run_shell(root, f"{command} {logdir}", env={**os.environ, "FORCE_COLOR": "1", "PYTHONUTF8": "1"})

    for text in (done.stdout, done.stderr):
        assert [letter for letter in text if not letter.isprintable() and letter != "\n"] == []
        assert "%" not in text


def test_a_name_that_is_no_text_is_shown(logdir: Path, root: Path) -> None:
    os.rename(logdir / "run", os.fsencode(logdir / "run") + b"\xff")

    done = run_shell(root, f"inspect {logdir}", env={**os.environ, "PYTHONUTF8": "1"})

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].startswith("run\\udcff  train")


@pytest.mark.parametrize("command", ["inspect", "doctor", "export --phase train --format csv --out -"])
def test_a_terminal_gets_a_bar_while_a_large_log_is_opened(logdir: Path, root: Path, command: str) -> None:
    code = (
        "import sys; from tb_batchview import cli, log, progress\n"
        "progress.DELAY, log.SLICE_SECONDS = float(sys.argv.pop(1)), 0.0\n"  # as if the log were large
        "cli.main()"
    )
    words = [*command.split(), str(logdir)]

    shown = {delay: run_at_terminal([sys.executable, "-c", code, delay, *words], root) for delay in ("0", "60")}

    assert b"Opening  [" in shown["0"][2]
    assert b"100%" in shown["0"][2]
    assert b"Opening" not in shown["60"][2]
    assert shown["0"][:2] == shown["60"][:2]
    assert b"Opening" not in shown["0"][1]


# -- help --------------------------------------------------------------------------------------------------------------


def test_help_says_where_to_begin_and_what_each_command_answers() -> None:
    printed = run_cli("--help").stdout

    begin = printed.index("Begin with")
    assert printed.index("tb-batchview inspect logs", begin) < printed.index("Commands:")
    assert [name for name in cli.main.commands if not re.search(rf"^  {name} +\w.*[?.]$", printed, re.M)] == []
    assert "..." not in printed[printed.index("Commands:") :]


@pytest.mark.parametrize("command", sorted(cli.main.commands))
def test_help_of_a_command_has_examples_and_exit_status(command: str) -> None:
    result = run_cli(command, "--help")

    assert (result.exit_code, result.stderr) == (0, "")
    assert f"tb-batchview {command} logs" in result.stdout
    assert re.search(r"Exit status: 0; 1 .*; 2\s+for\s+wrong\s+usage", result.stdout, re.S)
    assert [line for line in result.stdout.splitlines() if line.endswith("...")] == []


def test_examples_of_the_help_run(logdir: Path, root: Path, tmp_path: Path) -> None:
    (logdir / "logs").mkdir()
    (logdir / "run").rename(logdir / "logs" / "a")
    pages = [run_cli(command, "--help").stdout for command in sorted(cli.main.commands)]
    examples = [line.strip() for page in pages for line in page.splitlines() if line.startswith("    tb-batchview ")]

    tools = tmp_path / "bin"
    tools.mkdir()
    for name, arguments in (("tb-batchview", "-m tb_batchview "), ("python", "")):
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
        (tools / name).chmod(0o755)

    assert len(examples) >= 9
    for example in examples:
        done = subprocess.run(
            ["bash", "-c", example],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "PYTHONPATH": str(root), "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"},
        )
        # Doctor may find something wrong with the environment of the tests.
        assert done.returncode == 0 or ("doctor" in example and "to look at" in done.stderr), (example, done.stderr)
        assert "Traceback" not in done.stderr
        assert done.stdout or " --out a" in example


def test_without_a_command_the_help_comes() -> None:
    result = run_cli()

    assert result.exit_code == 2
    assert "Begin with" in result.stderr
