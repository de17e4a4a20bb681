"""Real runs, a real TensorBoard and a real Chromium: what a person sees.

Every page is watched: an error on the console, an exception, a failed request
or a violation of the content security policy fails the test.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from browser.host import ROOT, Watched, run_chromium, run_tensorboard, wait_until, watch
from browser.pair import EPOCHS, NAMES, SPIKES, TASKS, draw_task, write_pair
from PIL import Image
from playwright.sync_api import Browser, Locator, Route, expect
from provided import run_data_server
from recorded import make_record, write
from sklearn import metrics
from sklearn.datasets import load_digits

from tb_batchview import BatchWriter, load
from tb_batchview.seriation import order_confusable

pytestmark = [pytest.mark.browser, pytest.mark.slow]

BATCHES = 90  # training batches of a run, as tests/conftest.py trains the demo
SAMPLES = 2 * 1437
RUN = "swapped-labels"  # the newest, shown first

# No slash: names of runs are those of folders.
HOSTILE_RUN = '<img src=x onerror="parent.hacked=1"> \u202e\u05e9\u05dc\u05d5\u05dd \U0001f9ea ' + "x" * 150
HOSTILE_NAMES = [
    '<img src=x onerror="parent.hacked=1"><script>parent.hacked=1</script>',
    "long " + "x" * 10_000,
    "\u202eright to left\u202c \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "\U0001f469\u200d\U0001f52c emoji \U0001f9ea",
    "before\x00after",
    "&lt;already escaped&gt; ${1+1} {{1+1}}",
    "",
]


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with run_chromium(chromium) as browser:
        yield browser


@pytest.fixture(scope="module")
def start() -> Iterator[Callable[..., str]]:
    """Return a function that starts a TensorBoard, or names one that runs with the same arguments."""
    with contextlib.ExitStack() as stack:
        yield functools.cache(lambda logdir, *arguments: stack.enter_context(run_tensorboard(logdir, *arguments)))


@pytest.fixture(params=["--load_fast=auto", "--load_fast=false"])
def both_loaders(request: pytest.FixtureRequest, start: Callable[..., str], demo_logdir: Path) -> str:
    return start(demo_logdir, request.param)


@pytest.fixture
def tensorboard(start: Callable[..., str], demo_logdir: Path) -> str:
    return start(demo_logdir, "--load_fast=auto")


@contextlib.contextmanager
def watch_in(browser: Browser, width: int = 1460, height: int = 900, theme: str = "light") -> Iterator[Watched]:
    context = browser.new_context(viewport={"width": width, "height": height})
    # TensorBoard keeps the theme here; frames of no origin have no storage.
    context.add_init_script(
        f"""if (origin !== "null") localStorage.setItem("_tb_global_settings", '{{"theme":"{theme}"}}')"""
    )
    watched = watch(context)
    yield watched
    context.close()
    assert watched.errors == []


@pytest.fixture
def watched(browser: Browser) -> Iterator[Watched]:
    with watch_in(browser) as watched:
        yield watched


@pytest.fixture(scope="module")
def axe() -> str:
    """Return the source of axe-core, which `npm ci` has brought."""
    file = ROOT / "tb_batchview_frontend" / "node_modules" / "axe-core" / "axe.min.js"
    if not file.exists():
        complain = pytest.fail if os.environ.get("CI") else pytest.skip
        complain("This test needs axe-core: npm ci in tb_batchview_frontend")
    return file.read_text()


def open_plugin(watched: Watched, address: str, **state: Any) -> None:
    """Open the tab; `state` goes into the address, as a shared link has it."""
    keys = "".join(f"&p.batchview.{key}={quote(str(value))}" for key, value in state.items())
    watched.page.goto(f"{address}#batchview{keys}")
    expect(watched.plugin.get_by_test_id("badge")).to_be_visible()


def open_tab(watched: Watched, name: str) -> None:
    watched.plugin.get_by_test_id(f"tab-{name}").click()
    expect(watched.plugin.get_by_test_id(f"tab-{name}")).to_have_attribute("aria-selected", "true")


def read_row(table: Locator, number: int) -> list[str]:
    """Return the cells of a row by its number from 0, as seen."""
    row = table.locator(f"tr[aria-rowindex='{number + 2}']")
    expect(row.locator("td").nth(1)).to_be_visible()
    return [text.strip() for text in row.locator("td").all_inner_texts()]


def expect_drawn(canvas: Locator) -> None:
    """Expect a canvas with something on it: more than two colours."""
    expect(canvas).to_be_visible()
    count = """canvas => new Set(new Uint32Array(
        canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size"""
    wait_until(lambda: canvas.evaluate(count) > 2, "a picture on the canvas")


def expect_settled(watched: Watched) -> None:
    """Expect a tab with something in it, and nothing under way."""
    expect(watched.plugin.get_by_test_id("content").locator("canvas, td").first).to_be_visible()
    expect(watched.plugin.get_by_text("Loading…")).to_have_count(0)
    watched.page.wait_for_load_state("networkidle")


def test_without_a_log_directory_the_page_says_what_the_data_provider_kept(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    write(tmp_path / "logs" / "run", [make_record(step) for step in range(4812)])
    truth = {batch.step: batch for batch in load(tmp_path / "logs")["run"].batches("train")}
    with (
        run_data_server(tmp_path / "logs", tmp_path, "10") as address,
        run_tensorboard(tmp_path, f"--grpc_data_provider={address}") as tensorboard,
    ):
        for theme in ("light", "dark"):
            with watch_in(browser, theme=theme) as watched:
                open_plugin(watched, tensorboard)
                plugin = watched.plugin
                expect(plugin.get_by_test_id("badge")).to_contain_text("10 of 4,812 batches")
                expect(plugin.get_by_test_id("provider")).to_contain_text(
                    "Read through TensorBoard’s data provider, which kept 10 of 4,812 batches."
                )
                rows = [read_row(plugin.get_by_test_id("batches-table"), number) for number in range(10)]
                for row in rows:
                    batch = truth[int(row[0].replace(",", ""))]
                    assert [int(row[1]), int(row[2])] == [batch.epoch, batch.size]
                    assert float(row[3]) == pytest.approx(batch.loss, rel=1e-3)
                assert "4,811" in [row[0] for row in rows]
                plugin.get_by_test_id("provider").get_by_role("button").click()
                expect(plugin.get_by_test_id("doctor-sheet")).to_contain_text("--samples-per-plugin=batchview=all")
        assert len([*tmp_path.glob("tb_batchview-*/*/*")]) == 1
    assert [*tmp_path.glob("tb_batchview-*")] == []


def test_tab_is_active_and_every_batch_is_there(watched: Watched, both_loaders: str) -> None:
    watched.page.goto(both_loaders)

    watched.page.get_by_role("tab", name="Batch View").click()

    expect(watched.plugin.get_by_test_id("badge")).to_contain_text(f"{BATCHES} of {BATCHES} batches")
    expect(watched.plugin.get_by_test_id("sentence")).to_contain_text(
        f"all {BATCHES} batches · epochs 0–1 · 2,874 samples"
    )


def test_every_tab_shows_its_tables_and_pictures(watched: Watched, both_loaders: str) -> None:
    open_plugin(watched, both_loaders)
    plugin = watched.plugin

    expect_drawn(plugin.get_by_test_id("timeline-loss").locator("canvas"))
    expect_drawn(plugin.get_by_test_id("timeline-error").locator("canvas"))
    assert read_row(plugin.get_by_test_id("batches-table"), 0)[:3] == ["0", "0", "32"]
    expect(plugin.get_by_test_id("batch-title")).to_contain_text("Batch 89")

    open_tab(watched, "classes")
    expect_drawn(plugin.get_by_test_id("confusion-matrix").locator("canvas"))
    table = plugin.get_by_test_id("classes-table")
    expect(table.locator("table")).to_have_attribute("aria-rowcount", "11")
    assert {read_row(table, number)[0] for number in range(10)} >= {"zero", "three", "five", "nine"}

    open_tab(watched, "samples")
    expect(plugin.get_by_test_id("samples-count")).to_contain_text(f"{SAMPLES:,} match")
    assert len(read_row(plugin.get_by_test_id("samples-table"), 0)) >= 6

    open_tab(watched, "layers")
    assert read_row(plugin.get_by_test_id("layers-table"), 0)[0] == "conv_1"
    for picture in ("layer-lines", "layer-zeros", "layer-heatmap", "layer-ridgeline"):
        expect_drawn(plugin.get_by_test_id(picture).locator("canvas").first)


def test_figures_on_screen_are_those_recorded(watched: Watched, tensorboard: str, demo_logdir: Path) -> None:
    run = load(demo_logdir)[RUN]
    worst = max(run.batches("train"), key=lambda batch: batch.loss)
    confusion = run.confusion("train")
    open_plugin(watched, tensorboard, batchSort="-loss")

    shown = read_row(watched.plugin.get_by_test_id("batches-table"), 0)
    open_tab(watched, "classes")
    classes = watched.plugin.get_by_test_id("classes-table")
    recalls = {row[0]: row for row in (read_row(classes, number) for number in range(10))}

    assert shown[0] == str(worst.step)
    assert float(shown[3]) == pytest.approx(worst.loss, rel=1e-3)
    assert float(shown[4]) == pytest.approx(worst.metrics["accuracy"], abs=1e-3)
    assert recalls["five"][1] == f"{confusion[5].sum():,}"
    assert float(recalls["five"][3].split()[0]) == pytest.approx(confusion[5, 5] / confusion[5].sum(), abs=1e-3)


def test_click_on_a_batch_leads_to_its_samples(watched: Watched, tensorboard: str, demo_logdir: Path) -> None:
    batch = load(demo_logdir)[RUN].batches("train")[3]
    wrong = int((batch.targets.reshape(-1) != batch.predictions.argmax(-1)).sum())
    open_plugin(watched, tensorboard)
    plugin = watched.plugin

    plugin.get_by_test_id("batches-table").locator("tr[aria-rowindex='5']").click()
    expect(plugin.get_by_test_id("batch-title")).to_have_text("Batch 3")
    plugin.get_by_test_id("outcome-wrong").click()
    table = plugin.get_by_test_id("batch-samples")
    expect(table.locator("table")).to_have_attribute("aria-rowcount", str(wrong + 1))
    table.locator("tr[aria-rowindex='2']").click()

    worst = int(np.argmax(batch.sample_loss))
    expect(plugin.get_by_test_id("sample")).to_contain_text(f"Sample {batch.sample_ids[worst]}")
    expect(plugin.get_by_test_id("sample-scores")).to_be_visible()
    assert f"p.batchview.sample=3.{worst}" in watched.page.url


def test_brush_on_the_timeline_chooses_a_range_for_all_tabs(watched: Watched, tensorboard: str) -> None:
    open_plugin(watched, tensorboard)
    expect_drawn(watched.plugin.get_by_test_id("timeline-loss").locator("canvas"))
    box = watched.plugin.get_by_test_id("timeline-loss").locator(".u-over").bounding_box()
    assert box is not None
    x, y, width = box["x"], box["y"] + box["height"] / 2, box["width"]

    watched.page.mouse.move(x + width * 0.25, y)
    watched.page.mouse.down()
    watched.page.mouse.move(x + width * 0.4, y, steps=4)
    watched.page.mouse.move(x + width * 0.5, y, steps=4)
    watched.page.mouse.up()

    sentence = watched.plugin.get_by_test_id("sentence")
    expect(sentence).to_contain_text(re.compile(r"batches 2[123]–4[3456] of 90"))
    said = re.search(r"batches \d+–\d+", sentence.inner_text())
    assert said is not None
    for tab in ("samples", "layers", "classes"):
        open_tab(watched, tab)
        expect(sentence).to_contain_text(said.group())

    # The pictures of the other tabs take a range as well.
    first, last = map(int, re.findall(r"\d+", said.group()))
    for tab, picture in (("classes", "trend-heatmap"), ("layers", "layer-heatmap")):
        open_tab(watched, tab)
        canvas = watched.plugin.get_by_test_id(picture).locator("canvas")
        expect_drawn(canvas)
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        assert box is not None
        y = box["y"] + 40
        watched.page.mouse.move(box["x"] + box["width"] * 0.5, y)
        watched.page.mouse.down()
        watched.page.mouse.move(box["x"] + box["width"] * 0.6, y, steps=4)
        watched.page.mouse.move(box["x"] + box["width"] + 30, y, steps=4)
        watched.page.mouse.up()
        expect(sentence).not_to_contain_text(said.group())
        said = re.search(r"batches \d+–\d+", sentence.inner_text())
        assert said is not None
        start, stop = map(int, re.findall(r"\d+", said.group()))
        assert first + (last - first) * 0.3 < start < first + (last - first) * 0.7
        assert stop == last  # drawn past the end of the picture
        first = start
    expect(watched.plugin.get_by_test_id("class-chosen")).to_have_count(0)


def test_cell_of_the_confusion_matrix_leads_to_its_samples(
    watched: Watched, tensorboard: str, demo_logdir: Path
) -> None:
    confusion = load(demo_logdir)[RUN].confusion("train")
    open_plugin(watched, tensorboard, tab="classes")
    matrix = watched.plugin.get_by_test_id("confusion-matrix")
    expect_drawn(matrix.locator("canvas"))
    box = matrix.locator("canvas").bounding_box()
    assert box is not None

    matrix.locator("canvas").hover(position={"x": box["width"] * 0.5, "y": box["height"] * 0.55})
    tip = matrix.locator(".tip").inner_text()
    matrix.locator("canvas").click(position={"x": box["width"] * 0.5, "y": box["height"] * 0.55})

    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    hit = re.match(r"target (\w+) → predicted (\w+)\n(\d+) sample", tip)
    assert hit is not None, tip
    target, predicted, count = hit.groups()
    assert int(count) == confusion[names.index(target), names.index(predicted)]
    panel = watched.plugin.get_by_test_id("confusion-samples")
    expect(panel.get_by_role("heading")).to_have_text(f"target {target}, predicted {predicted}")
    expect(panel.locator("table").first).to_have_attribute("aria-rowcount", str(int(count) + 1))


def test_view_is_restored_after_a_reload(watched: Watched, tensorboard: str) -> None:
    open_plugin(watched, tensorboard)
    watched.plugin.get_by_test_id("phase").get_by_role("button", name="validation").click()
    watched.plugin.get_by_test_id("run").select_option("clean")
    open_tab(watched, "classes")
    sentence = watched.plugin.get_by_test_id("sentence")
    expect(sentence).to_contain_text("validation · all 24 batches")
    before = (sentence.inner_text(), watched.page.url)

    watched.page.reload()

    expect(sentence).to_have_text(before[0])
    expect(watched.plugin.get_by_test_id("tab-classes")).to_have_attribute("aria-selected", "true")
    expect(watched.plugin.get_by_test_id("run")).to_have_value("clean")
    assert watched.page.url == before[1]


def test_link_opens_the_view_it_was_made_of(watched: Watched, tensorboard: str) -> None:
    open_plugin(
        watched, tensorboard, run="clean", phase="train", tab="samples", start=10, stop=20, target=3, outcome="wrong"
    )
    plugin = watched.plugin

    expect(plugin.get_by_test_id("sentence")).to_contain_text("train · batches 10–19 of 90 · epoch 0 · 320 samples")
    expect(plugin.get_by_test_id("outcome-wrong")).to_have_attribute("aria-pressed", "true")
    expect(plugin.get_by_test_id("filter-target")).to_contain_text("target three")


def test_nonsense_in_a_link_shows_the_first_view(watched: Watched, tensorboard: str) -> None:
    open_plugin(
        watched, tensorboard, run="no such run", phase="nothing", tab="<b>", start="abc", batch="-1", target=1e9
    )

    expect(watched.plugin.get_by_test_id("missing-run")).to_contain_text("no such run")
    expect(watched.plugin.get_by_test_id("badge")).to_contain_text(f"{BATCHES} of {BATCHES}")


def test_dark_mode_follows_tensorboard(watched: Watched, tensorboard: str) -> None:
    open_plugin(watched, tensorboard)
    expect_drawn(watched.plugin.get_by_test_id("timeline-loss").locator("canvas"))

    def read_background() -> str:
        return str(watched.frame.evaluate("getComputedStyle(document.body).backgroundColor"))

    def choose(theme: str) -> None:
        watched.page.get_by_label("Menu for changing light or dark theme").click()
        watched.page.get_by_role("menuitem", name=theme, exact=True).click()

    light = read_background()
    choose("Dark")
    wait_until(lambda: read_background() != light, "a dark background")
    dark = read_background()
    expect_drawn(watched.plugin.get_by_test_id("timeline-loss").locator("canvas"))
    choose("Light")
    wait_until(lambda: read_background() == light, "a light background again")

    brightness = {name: sum(map(int, re.findall(r"\d+", colour)[:3])) for name, colour in (("l", light), ("d", dark))}
    assert brightness["l"] > 600 > 300 > brightness["d"]


def test_keys_move_through_batches(watched: Watched, tensorboard: str) -> None:
    open_plugin(watched, tensorboard, batch=5)
    title = watched.plugin.get_by_test_id("batch-title")
    expect(title).to_have_text("Batch 5")
    watched.plugin.get_by_test_id("sentence").click()

    watched.page.keyboard.press("ArrowRight")
    expect(title).to_have_text("Batch 6")
    for _ in range(3):  # faster than the answers
        watched.page.keyboard.press("ArrowLeft")
    expect(title).to_have_text("Batch 3")

    # From the search to a class found, and through the class mix.
    watched.page.keyboard.press("/")
    watched.page.keyboard.type("t")
    watched.page.keyboard.press("ArrowDown")
    watched.page.keyboard.press("ArrowDown")
    watched.page.keyboard.press("Enter")
    expect(watched.plugin.get_by_test_id("class-chosen")).to_contain_text("target three")
    expect(title).to_have_text("Batch 3")
    predicted = watched.plugin.get_by_role("toolbar", name=re.compile("^predicted: ")).get_by_role("button")
    predicted.first.focus()
    watched.page.keyboard.press("ArrowRight")
    expect(predicted.nth(1)).to_be_focused()
    watched.page.keyboard.press("Enter")
    expect(predicted.nth(1)).to_have_attribute("aria-pressed", "true")
    expect(watched.plugin.get_by_test_id("filter-predicted")).to_be_visible()
    expect(title).to_have_text("Batch 3")


def find_barriers(watched: Watched, axe: str) -> list[str]:
    """Return what keeps people out, as axe-core finds it: serious and critical violations."""
    found = watched.frame.evaluate(f"() => {{ {axe}; return axe.run(document, {{resultTypes: ['violations']}}) }}")
    assert found["passes"], "axe-core looked at nothing"
    return [
        f"{violation['impact']} {violation['id']}: {node['html'][:200]}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


FULL: dict[str, dict[str, Any]] = {
    "batches": {"batch": 3, "sample": "3.0", "start": 2, "outcome": "wrong"},
    "classes": {"tab": "classes", "target": 3, "predicted": 5},
    "samples": {"tab": "samples", "target": 3, "sample": "3.0"},
    "layers": {"tab": "layers", "layer": "dense", "batch": 10},
}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_tab_has_a_serious_barrier(browser: Browser, tensorboard: str, axe: str, theme: str) -> None:
    barriers: dict[str, list[str]] = {}
    with watch_in(browser, theme=theme) as watched:
        plugin = watched.plugin
        for tab, state in FULL.items():
            open_plugin(watched, tensorboard, **state)
            expect_settled(watched)
            barriers[tab] = find_barriers(watched, axe)
            watched.page.goto("about:blank")
        open_plugin(watched, tensorboard)
        plugin.get_by_test_id("class-search").fill("e")
        expect(plugin.get_by_test_id("class-matches")).to_be_visible()
        barriers["search"] = find_barriers(watched, axe)
        plugin.get_by_test_id("keys").click()
        expect(plugin.get_by_test_id("keys-sheet")).to_be_visible()
        barriers["keys"] = find_barriers(watched, axe)
        watched.page.keyboard.press("Escape")
        plugin.get_by_test_id("checks").click()
        expect(plugin.get_by_test_id("doctor-sheet")).to_contain_text("registered with the TensorBoard of this Python")
        barriers["checks"] = find_barriers(watched, axe)
        assert (watched.frame.evaluate("document.documentElement.className") == "dark") == (theme == "dark")

    assert barriers == {name: [] for name in barriers}


def find_barriers_in_both_themes(watched: Watched, axe: str) -> list[str]:
    """Return what keeps people out of the page as it stands, in either theme."""
    expect_settled(watched)
    found = []
    for theme in ("light", "dark"):
        watched.page.evaluate("theme => document.body.classList.toggle('dark-mode', theme === 'dark')", theme)
        wait_until(lambda dark=theme == "dark": watched.frame.evaluate(IS_DARK) == dark, theme)  # type: ignore[misc]
        found += [f"{theme}: {barrier}" for barrier in find_barriers(watched, axe)]
    return found


IS_DARK = "document.documentElement.classList.contains('dark')"


def test_no_task_has_a_serious_barrier(watched: Watched, tasks_tensorboard: str, axe: str) -> None:
    open_plugin(watched, tasks_tensorboard, tab="classes", run="multiclass")
    barriers = {}
    for task in ("multiclass", "binary", "regression", "multilabel"):
        watched.plugin.get_by_test_id("run").select_option(task)
        expect(watched.plugin.get_by_test_id("sentence")).to_contain_text("24 batches")
        barriers[task] = find_barriers_in_both_themes(watched, axe)
    for tab in ("batches", "samples"):
        open_tab(watched, tab)
        barriers[tab] = find_barriers_in_both_themes(watched, axe)

    assert barriers == {name: [] for name in barriers}


def test_no_comparison_has_a_serious_barrier(watched: Watched, pair_tensorboard: str, axe: str) -> None:
    open_plugin(watched, pair_tensorboard, run="wide", runB="narrow")
    barriers = {}
    for tab in ("batches", "classes", "samples", "layers"):
        open_tab(watched, tab)
        barriers[tab] = find_barriers_in_both_themes(watched, axe)

    assert barriers == {tab: [] for tab in barriers}


@pytest.fixture(scope="module")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a log directory without anything."""
    return tmp_path_factory.mktemp("nothing")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_page_without_runs_or_with_an_error_has_no_serious_barrier(
    browser: Browser, start: Callable[..., str], nothing: Path, axe: str, theme: str
) -> None:
    address = start(nothing)
    with watch_in(browser, theme=theme) as watched:
        watched.page.goto(f"{address}#batchview")
        expect(watched.plugin.get_by_test_id("empty")).to_be_visible()
        empty = find_barriers(watched, axe)

        watched.page.route("**/batchview/runs*", lambda route: route.fulfill(status=400, body="No."))
        watched.page.reload()
        expect(watched.plugin.get_by_test_id("error")).to_contain_text("No.")
        error = find_barriers(watched, axe)
        watched.errors.clear()

    assert (empty, error) == ([], [])


def test_barriers_are_found(watched: Watched, tensorboard: str, axe: str) -> None:
    """The tests above rest on it."""
    open_plugin(watched, tensorboard)

    watched.frame.evaluate(
        """() => {
        const badge = document.querySelector('[data-testid="badge"]');
        badge.style.color = "#ddd";
        const run = document.querySelector("#run");
        run.labels[0].remove();
        run.removeAttribute("title"); // it would do for a name
    }"""
    )

    found = find_barriers(watched, axe)
    assert {barrier.split(":")[0] for barrier in found} == {"critical select-name", "serious color-contrast"}


def test_page_runs_under_a_policy_without_eval_and_inline_styles(
    browser: Browser, tensorboard: str, demo_logdir: Path
) -> None:
    policies: list[str] = []

    def tighten(route: Route) -> None:
        response = route.fetch()
        policy = response.headers["content-security-policy"]
        policies.append(policy)
        for allowed in (" 'unsafe-eval'", " 'unsafe-inline'"):
            policy = policy.replace(allowed, "")
        route.fulfill(response=response, headers={**response.headers, "content-security-policy": policy})

    with watch_in(browser) as watched:
        watched.page.route("**/plugin_entry.html*", tighten)
        for state in FULL.values():
            open_plugin(watched, tensorboard, **state)
            expect_settled(watched)
            watched.page.goto("about:blank")
        assert watched.errors == []
        assert len(policies) == len(FULL)

        # The policy was the stricter one: what needs more is refused.
        open_plugin(watched, tensorboard)
        watched.frame.evaluate("document.body.setAttribute('style', 'color: red')")

        def refused() -> bool:
            watched.page.evaluate("0")  # errors arrive while the page is spoken to
            # One is the browser's own, the other that of `host.REPORT_CSP`.
            return sum("style" in error for error in watched.errors) == 2

        wait_until(refused, "a violation, told twice")
        watched.errors.clear()


def test_tables_and_pictures_are_saved_as_files(watched: Watched, tensorboard: str, demo_logdir: Path) -> None:
    batch = load(demo_logdir)[RUN].batches("train")[10]
    open_plugin(watched, tensorboard, batch=10)
    plugin = watched.plugin
    expect_drawn(plugin.get_by_test_id("timeline-loss").locator("canvas"))

    def save(button: Locator) -> tuple[str, bytes]:
        with watched.page.expect_download() as saved:
            button.click()
        return saved.value.suggested_filename, saved.value.path().read_bytes()

    name, table = save(plugin.get_by_test_id("csv-batch-samples"))
    lines = table.decode().split("\r\n")
    assert name == f"{RUN}-train-batch-samples.csv"
    assert lines[0].startswith("step,sample,id,target,predicted")
    assert len(lines) == 1 + len(batch.targets) + 1
    assert save(plugin.get_by_test_id("csv-batch-layers"))[1].decode().startswith("layer,mean,std,zero_fraction")

    name, file = save(plugin.get_by_test_id("timeline-loss").get_by_role("button", name="PNG of Loss of every batch"))
    picture = Image.open(io.BytesIO(file))
    assert (name, picture.format) == (f"{RUN}-train-timeline-loss.png", "PNG")
    box = plugin.get_by_test_id("timeline-loss").locator("canvas").bounding_box()
    assert box is not None
    assert picture.width > box["width"]
    assert picture.height > box["height"] + 20
    colours = picture.convert("RGB").getcolors(1_000_000)
    assert colours is not None
    assert len(colours) > 20

    open_tab(watched, "layers")
    heatmap = plugin.get_by_test_id("layer-heatmap")
    expect_drawn(heatmap.locator("canvas"))
    heatmap.hover()
    name, file = save(heatmap.get_by_role("button", name="PNG"))
    assert (name, Image.open(io.BytesIO(file)).format) == (f"{RUN}-train-layer-heatmap.png", "PNG")

    confusion = load(demo_logdir)[RUN].confusion("train")
    open_plugin(watched, tensorboard, tab="classes", runB="clean", target=3, predicted=5, sample="10.0")
    watched.page.reload()
    lines = save(plugin.get_by_test_id("csv-chosen-samples"))[1].decode().split("\r\n")
    assert (lines[0][:12], len(lines)) == ("step,sample,", 1 + int(confusion[3, 5]) + 1)
    lines = save(plugin.get_by_test_id("csv-sample-scores"))[1].decode().split("\r\n")
    assert sorted(line.split(",")[1] for line in lines[1:-1]) == sorted(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    )
    expect_drawn(plugin.get_by_test_id("delta-matrix").locator("canvas"))
    name, file = save(plugin.get_by_test_id("delta-png"))
    assert (name, Image.open(io.BytesIO(file)).format) == (f"{RUN}-train-confusion-difference.png", "PNG")


def test_a_narrow_window_shows_everything_below_each_other(browser: Browser, tensorboard: str) -> None:
    with watch_in(browser, width=400, height=800) as watched:
        for state in FULL.values():
            open_plugin(watched, tensorboard, **state)
            expect_settled(watched)
            assert watched.frame.evaluate("document.documentElement.scrollWidth <= innerWidth"), state
            # Nothing is cut off either, but in what scrolls by itself or is cut with an ellipsis.
            outside = watched.frame.evaluate(
                """() => [...document.querySelectorAll("button, input, select, h2, canvas")]
                    .filter((element) => element.closest(".scroll, .wide, .scores, .hidden, dialog") === null)
                    .filter((element) => element.getBoundingClientRect().right > innerWidth + 1)
                    .map((element) => element.outerHTML.slice(0, 100))"""
            )
            assert outside == [], state
            watched.page.goto("about:blank")


# -- runs made by hand -------------------------------------------------------------------------------------------------


def add_batches(
    writer: BatchWriter,
    count: int,
    classes: int,
    seed: int = 0,
    ids: Sequence[str] = (),
    metrics: Sequence[str] = ("accuracy",),
    layers: Sequence[str] = ("dense",),
    losses: Mapping[int, float] = MappingProxyType({}),
) -> None:
    rng = np.random.default_rng(seed)
    for number in range(count):
        scores = rng.dirichlet(np.ones(classes), 16).astype(np.float32)
        writer.add_batch(
            predictions=scores,
            targets=rng.integers(0, classes, 16),
            sample_loss=rng.random(16).astype(np.float32),
            sample_ids=[ids[place % len(ids)] for place in range(16)] if ids else None,
            loss=losses.get(number, 1 + float(rng.random())),
            metrics={name: float(rng.random()) for name in metrics},
            histograms={name: rng.normal(size=(16, 4)).astype(np.float32) for name in layers},
        )
    assert writer.flush(30)


CONFUSED_NAMES = [f"kind {letter}" for letter in "abcdefghi"]


def add_confused(writer: BatchWriter, batches: int, samples: int, classes: int) -> None:
    """Write batches in which each class is taken for two others, far from it by number."""
    rng = np.random.default_rng(5)
    for _ in range(batches):
        targets = rng.integers(0, classes, samples)
        wrong = (targets + classes // 3 * rng.integers(1, 3, samples)) % classes
        predicted = np.where(rng.random(samples) < 0.7, targets, wrong)
        scores = np.full((samples, classes), 0.2 / (classes - 1), np.float32)
        scores[np.arange(samples), predicted] = 0.8
        writer.add_batch(predictions=scores, targets=targets, loss=1.0)
    assert writer.flush(30)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    logdir = tmp_path_factory.mktemp("lab")
    with BatchWriter(logdir / HOSTILE_RUN, class_names=HOSTILE_NAMES) as writer:
        # Names of metrics and layers have to be printable, and of 1,000 characters at most.
        names = [HOSTILE_NAMES[0], HOSTILE_NAMES[1][:1000], HOSTILE_NAMES[5]]
        add_batches(writer, 12, len(HOSTILE_NAMES), ids=HOSTILE_NAMES, metrics=names, layers=names)
    with BatchWriter(logdir / "broken") as writer:
        add_batches(writer, 60, 3, losses={41: 20.0, 55: float("nan"), 56: float("inf")})
    with BatchWriter(logdir / "confused", class_names=CONFUSED_NAMES) as writer:
        add_confused(writer, batches=8, samples=256, classes=len(CONFUSED_NAMES))
    with BatchWriter(logdir / "thousand") as writer:
        add_confused(writer, batches=4, samples=400, classes=1000)
    return logdir


@pytest.fixture
def lab_tensorboard(start: Callable[..., str], lab: Path) -> str:
    return start(lab)


@pytest.mark.parametrize("width", [1460, 400])
def test_hostile_names_are_text(browser: Browser, lab_tensorboard: str, width: int) -> None:
    with watch_in(browser, width=width) as watched:
        plugin = watched.plugin
        for tab in ("samples", "layers", "batches", "classes"):
            open_plugin(watched, lab_tensorboard, run=HOSTILE_RUN, tab=tab, batch=3, target=0, sample="3.1")
            expect(plugin.get_by_test_id("run")).to_have_value(HOSTILE_RUN)
            expect_settled(watched)
            expect(plugin.get_by_test_id("content")).to_contain_text(HOSTILE_NAMES[0])
            assert watched.frame.locator("img, script[src=x]").count() == 0
            # Nothing makes the page wider than the window: the long name is cut, not the layout.
            assert watched.frame.evaluate("document.documentElement.scrollWidth <= innerWidth"), tab
            if tab != "classes":
                watched.page.goto("about:blank")
        expect_drawn(plugin.get_by_test_id("confusion-matrix").locator("canvas"))
        table = plugin.get_by_test_id("classes-table")
        shown = {read_row(table, number)[0] for number in range(len(HOSTILE_NAMES))}
        assert watched.page.evaluate("window.hacked === undefined")

    assert HOSTILE_NAMES[0] in shown
    assert any("emoji" in name for name in shown)
    assert any(name.startswith("long xxx") for name in shown)
    assert any("before" in name and "after" in name for name in shown)
    assert HOSTILE_NAMES[5] in shown


def test_hostile_ids_metrics_and_layers_are_text(watched: Watched, lab_tensorboard: str) -> None:
    open_plugin(watched, lab_tensorboard, run=HOSTILE_RUN, batch=3)
    plugin = watched.plugin
    heads = plugin.get_by_test_id("batches-table").locator("th").all_inner_texts()
    samples = plugin.get_by_test_id("batch-samples")
    ids = {read_row(samples, number)[0] for number in range(7)}
    layers = plugin.get_by_test_id("batch-layers").get_by_role("button").all_inner_texts()

    assert heads[4] == HOSTILE_NAMES[0]
    assert HOSTILE_NAMES[0] in ids or HOSTILE_NAMES[5] in ids
    assert layers[0] == HOSTILE_NAMES[0]
    # No row is higher than the others, whatever is written in it.
    rows = "[...document.querySelectorAll('#batch-samples tr[aria-rowindex]')]"
    assert watched.frame.evaluate(f"Math.max(...{rows}.map((row) => row.offsetHeight))") <= 31


def test_list_of_spikes_opens_the_batch_that_broke_it(watched: Watched, lab_tensorboard: str) -> None:
    open_plugin(watched, lab_tensorboard, run="broken")
    plugin = watched.plugin
    spikes = plugin.get_by_test_id("spikes-table")

    expect(plugin.get_by_test_id("nonfinite")).to_have_text("loss NaN or infinite in 2 batches")
    assert read_row(spikes, 0)[:3] == ["55", "NaN", "–"]
    assert read_row(spikes, 1)[:2] == ["41", "20.00"]
    spikes.locator("tr[aria-rowindex='3']").click()
    expect(plugin.get_by_test_id("batch-title")).to_have_text("Batch 41")
    for part in ("batch-samples", "class-mix", "batch-layers"):
        expect(plugin.get_by_test_id(part)).to_be_visible()

    spikes.locator("table").focus()
    watched.page.keyboard.press("ArrowUp")
    expect(plugin.get_by_test_id("batch-title")).to_have_text("Batch 55")
    watched.page.keyboard.press("p")
    expect(plugin.get_by_test_id("batch-title")).to_have_text("Batch 41")


def open_matrix(watched: Watched, address: str, run: str, **state: Any) -> Locator:
    open_plugin(watched, address, run=run, tab="classes", **state)
    canvas = watched.plugin.get_by_test_id("confusion-matrix").locator("canvas")
    expect_drawn(canvas)
    return canvas


def read_address(watched: Watched, key: str) -> str | None:
    """Return what stands in the page's address for a key."""
    found = re.search(rf"p\.batchview\.{key}=([^&]*)", watched.page.evaluate("location.href"))
    return found and found.group(1)


def download(watched: Watched, name: str) -> bytes:
    with watched.page.expect_download() as download:
        watched.plugin.get_by_test_id(name).click()
    return Path(download.value.path()).read_bytes()


def test_keys_lead_through_the_matrix_to_the_samples(watched: Watched, lab_tensorboard: str, lab: Path) -> None:
    confusion = load(lab)["confused"].confusion("train")
    canvas = open_matrix(watched, lab_tensorboard, "confused")
    said = watched.plugin.get_by_test_id("matrix-said")
    press = watched.page.keyboard.press
    canvas.focus()

    for keys, start in [
        (["ArrowRight"], "target kind a → predicted kind a"),
        (["ArrowDown", "ArrowRight", "ArrowRight"], "target kind b → predicted kind c"),
        (["End"], "target kind b → predicted kind i"),
        (["Home", "ArrowLeft"], "target kind b. "),
        (["Control+End"], "target kind i → predicted kind i"),
        (["Control+Home", "ArrowUp"], "predicted kind a. "),
        (["PageDown"], "target kind i → predicted kind a"),
        (["Home", "ArrowRight", "ArrowRight", "ArrowRight"], "target kind i → predicted kind d"),
        (["ArrowUp", "ArrowUp", "ArrowUp", "ArrowUp", "ArrowUp"], "target kind d → predicted kind d"),
        (["ArrowUp", "ArrowUp", "ArrowUp"], f"target kind a → predicted kind d. {confusion[0, 3]} samples. "),
    ]:
        for key in keys:
            press(key)
        expect(said).to_contain_text(start)
    share = confusion[0, 3] / confusion[0].sum()
    told = re.search(r"([\d.]+).% of the", said.inner_text())
    assert told is not None
    assert float(told.group(1)) == pytest.approx(100 * share, rel=1e-8)

    press("Enter")
    panel = watched.plugin.get_by_test_id("confusion-samples")
    expect(panel.get_by_role("heading")).to_have_text("target kind a, predicted kind d")
    panel.get_by_text("open in Samples").click()
    expect(watched.plugin.get_by_test_id("samples-count")).to_contain_text(f"{confusion[0, 3]} match")
    expect(watched.plugin.get_by_test_id("filter-predicted")).to_contain_text("kind d")


def test_heads_of_the_matrix_lead_to_the_samples_of_a_row_or_a_column(
    watched: Watched, lab_tensorboard: str, lab: Path
) -> None:
    confusion = load(lab)["confused"].confusion("train")
    canvas = open_matrix(watched, lab_tensorboard, "confused")
    heading = watched.plugin.get_by_test_id("confusion-samples").get_by_role("heading")
    rows = watched.plugin.get_by_test_id("confusion-samples").locator("table").first

    canvas.hover(position={"x": 20, "y": 80})
    tip = watched.plugin.get_by_test_id("confusion-matrix").locator(".tip")
    expect(tip).to_contain_text(
        re.compile(r"^target kind \w\n\d+ samples\nrecall [\d.]+.%\nmost often taken for kind \w")
    )
    canvas.click(position={"x": 20, "y": 80})
    expect(heading).to_have_text(re.compile("^target kind [a-c]$"))
    target = CONFUSED_NAMES.index(heading.inner_text().removeprefix("target "))
    expect(rows).to_have_attribute("aria-rowcount", str(confusion[target].sum() + 1))

    canvas.click(position={"x": 200, "y": 28})
    expect(heading).to_have_text(re.compile("^predicted kind [c-f]$"))
    predicted = CONFUSED_NAMES.index(heading.inner_text().removeprefix("predicted "))
    expect(rows).to_have_attribute("aria-rowcount", str(confusion[:, predicted].sum() + 1))


def test_clustered_matrix_is_saved_as_it_is_shown(watched: Watched, lab_tensorboard: str, lab: Path) -> None:
    confusion = load(lab)["confused"].confusion("train")
    canvas = open_matrix(watched, lab_tensorboard, "confused")
    before = canvas.evaluate("canvas => canvas.toDataURL()")

    watched.plugin.get_by_test_id("matrix-order").select_option("clustered")
    expect(watched.plugin.get_by_test_id("sentence")).to_contain_text("confusable classes together")
    wait_until(lambda: canvas.evaluate("canvas => canvas.toDataURL()") != before, "the matrix in another order")
    sheet = list(csv.reader(io.StringIO(download(watched, "matrix-csv").decode())))
    picture = Image.open(io.BytesIO(download(watched, "matrix-png")))

    order = order_confusable(confusion)
    assert sheet[0][0] == r"target \ predicted (share of row)"
    assert sheet[0][1:] == [row[0] for row in sheet[1:]] == [CONFUSED_NAMES[number] for number in order]
    shares = confusion / confusion.sum(axis=1, keepdims=True)
    assert np.array([row[1:] for row in sheet[1:]], float) == pytest.approx(shares[np.ix_(order, order)])
    # The three classes of a circle stand together, far as they are by number.
    assert all(len(set(order[first : first + 3] % 3)) == 1 for first in (0, 3, 6))
    width, height = canvas.evaluate("canvas => [canvas.clientWidth, canvas.clientHeight]")
    assert picture.format == "PNG"
    assert picture.width == 2 * (width + 24)
    assert 2 * (height + 24) < picture.height < 2 * (height + 120)  # the line above it says what it is of
    assert len(picture.convert("RGB").getcolors(1 << 20)) > 20


def test_most_confused_pairs_lead_to_their_samples(watched: Watched, lab_tensorboard: str, lab: Path) -> None:
    confusion = load(lab)["confused"].confusion("train")
    np.fill_diagonal(confusion, 0)
    target, predicted = np.unravel_index(confusion.argmax(), confusion.shape)
    open_matrix(watched, lab_tensorboard, "confused")
    pairs = watched.plugin.get_by_test_id("pairs-table")

    row = read_row(pairs, 0)
    assert row[:3] == [CONFUSED_NAMES[target], CONFUSED_NAMES[predicted], str(confusion[target, predicted])]
    assert row[4] == str(confusion[predicted, target])
    pairs.locator("tr[aria-rowindex='2'] button").click()
    heading = watched.plugin.get_by_test_id("confusion-samples").get_by_role("heading")
    expect(heading).to_have_text(f"target {CONFUSED_NAMES[predicted]}, predicted {CONFUSED_NAMES[target]}")
    pairs.locator("tr[aria-rowindex='2'] td").first.click()
    expect(heading).to_have_text(f"target {CONFUSED_NAMES[target]}, predicted {CONFUSED_NAMES[predicted]}")
    saved = list(csv.reader(io.StringIO(download(watched, "pairs-csv").decode())))
    assert len(saved) - 1 == np.count_nonzero(confusion)


def test_search_narrows_the_tables_of_classes(watched: Watched, lab_tensorboard: str) -> None:
    open_matrix(watched, lab_tensorboard, "confused")
    table = watched.plugin.get_by_test_id("classes-table")

    watched.plugin.get_by_test_id("sentence").click()  # the keys are those of the plugin's frame
    watched.page.keyboard.press("/")
    watched.page.keyboard.type("KIND G")
    expect(table.locator("table")).to_have_attribute("aria-rowcount", "2")
    assert read_row(table, 0)[0] == "kind g"
    expect(watched.plugin.get_by_test_id("classes-count")).to_contain_text("1 of 9 with “KIND G”")
    # g is taken for two others, and they for it.
    expect(watched.plugin.get_by_test_id("pairs-count")).to_contain_text("4 of classes with “KIND G”")
    saved = list(csv.reader(io.StringIO(download(watched, "csv").decode())))
    assert [row[1] for row in saved] == ["name", "kind g"]

    watched.plugin.get_by_test_id("class-search").press("Escape")
    expect(table.locator("table")).to_have_attribute("aria-rowcount", "10")


def test_a_thousand_classes_are_zoomed_and_moved_and_the_link_knows_where(
    watched: Watched, lab_tensorboard: str
) -> None:
    canvas = open_matrix(watched, lab_tensorboard, "thousand")
    words = watched.plugin.get_by_test_id("matrix-part")
    expect(words).to_contain_text("1,000 classes")
    box = canvas.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.5

    watched.page.mouse.move(x, y)
    watched.page.keyboard.down("Control")
    for _ in range(12):
        watched.page.mouse.wheel(0, -60)
    watched.page.keyboard.up("Control")
    wait_until(lambda: read_address(watched, "part") is not None, "the part in the address")
    row, column, size = map(float, (read_address(watched, "part") or "").split("_"))
    assert 40 < size < 80
    assert 300 < row < 600
    assert 400 < column < 700

    watched.page.mouse.down()
    watched.page.mouse.move(x - 60, y + 40, steps=4)
    watched.page.mouse.up()
    wait_until(lambda: read_address(watched, "part") != f"{row:g}_{column:g}_{size:g}", "the part moved to")
    moved = [float(number) for number in (read_address(watched, "part") or "").split("_")]
    assert moved[0] < row
    assert moved[1] > column
    assert moved[2] == size
    assert read_address(watched, "target") is None  # the end of a drag is no click

    watched.page.reload()
    expect(words).to_contain_text(f"{round(size)} of 1,000 classes")
    watched.plugin.get_by_text("whole matrix").click()
    expect(words).to_have_text(re.compile("^1,000 classes"))
    wait_until(lambda: read_address(watched, "part") is None, "the whole matrix in the address")


@pytest.mark.parametrize("run", [HOSTILE_RUN, "confused", "thousand"], ids=["hostile", "confused", "thousand"])
def test_classes_fit_a_narrow_window(watched: Watched, lab_tensorboard: str, run: str) -> None:
    watched.page.set_viewport_size({"width": 400, "height": 900})
    canvas = open_matrix(watched, lab_tensorboard, run, order="clustered", target=1)

    assert watched.frame.evaluate("document.documentElement.scrollWidth <= innerWidth")
    panels = [watched.plugin.get_by_test_id(name) for name in ("confusion", "confusion-samples", "pairs")]
    tops = [(panel.bounding_box() or {"y": 0})["y"] for panel in panels]
    assert tops == sorted(tops)  # the samples come right below the matrix
    canvas.scroll_into_view_if_needed()
    canvas.hover(position={"x": 200, "y": 200})
    tip = watched.plugin.get_by_test_id("confusion-matrix").locator(".tip")
    expect(tip).to_be_visible()
    assert (tip.bounding_box() or {"height": 999})["height"] < 240  # not the whole of a name of 10,000 letters


def write_known(logdir: Path, ids: Callable[[int], str | int], samples: int = 90, epochs: int = 8) -> None:
    """Write a training in which every tenth sample has a wrong label."""
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 3, samples)
    labels = np.where(np.arange(samples) % 10 == 0, (truth + 1) % 3, truth)
    with BatchWriter(logdir, class_names=["cat", "dog", "cow"]) as writer:
        for epoch in range(epochs):
            order = rng.permutation(samples)
            for batch in np.split(order, 6):
                logits = rng.normal(size=(len(batch), 3)) + 0.5 * epoch * np.eye(3)[truth[batch]]
                scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
                loss = -np.log(scores[np.arange(len(batch)), labels[batch]])
                writer.add_batch(
                    epoch=epoch,
                    predictions=scores.astype(np.float32),
                    targets=labels[batch],
                    sample_loss=loss,
                    loss=float(loss.mean()),
                    sample_ids=[ids(number) for number in batch.tolist()],
                )


@pytest.fixture(scope="module")
def known(lab: Path) -> Path:
    write_known(lab / "known", lambda number: f"train/images/img_{number:03}.png")
    write_known(
        lab / "hostile-ids", lambda number: HOSTILE_NAMES[number] if number < len(HOSTILE_NAMES) else f"s{number}", 12
    )
    return lab


def test_samples_are_followed_by_their_ids(watched: Watched, known: Path, lab_tensorboard: str) -> None:
    found = load(known)["known"].data_map("train")
    worst = [f"{found.ids[number]}" for number in np.argsort(found.margin, kind="stable")[:5]]
    open_plugin(watched, lab_tensorboard, run="known", tab="samples")
    plugin = watched.plugin
    table = plugin.get_by_test_id("samples-table")
    count = plugin.get_by_test_id("samples-count")
    expect(count).to_contain_text("720 match")
    expect_drawn(plugin.get_by_test_id("data-map").locator("canvas"))

    plugin.get_by_test_id("preset-margin").click()
    expect(count).to_contain_text("90 match")
    expect(plugin.get_by_test_id("preset-note")).to_contain_text("Pleiss et al. 2020")
    expect(table.locator("th[data-column=margin]")).to_have_attribute("aria-sort", "ascending")
    assert [read_row(table, number)[0] for number in range(5)] == [name.rpartition("/")[2] for name in worst]
    plugin.get_by_test_id("preset-forgotten").click()
    expect(count).to_contain_text(f"{np.count_nonzero(found.forgotten)} match")
    plugin.get_by_test_id("preset-never-learned").click()
    expect(count).to_contain_text(f"{np.count_nonzero(found.never_learned)} match")

    plugin.get_by_test_id("preset-margin").click()
    expect(count).to_contain_text("90 match")
    table.locator("tr[aria-rowindex='2']").click()
    history = plugin.get_by_test_id("history-strip").locator("button")
    expect(history).to_have_count(8)
    expect(history.last).to_have_attribute("aria-current", "true")
    history.first.click()
    expect(plugin.get_by_test_id("sample").get_by_role("heading")).to_have_text(f"Sample {worst[0]}")
    expect(history.first).to_have_attribute("aria-current", "true")
    plugin.get_by_test_id("history-rows").click()
    expect(count).to_contain_text("8 match")


def test_a_box_of_the_data_map_chooses_samples(watched: Watched, known: Path, lab_tensorboard: str) -> None:
    found = load(known)["known"].data_map("train")
    open_plugin(watched, lab_tensorboard, run="known", tab="samples")
    plugin = watched.plugin
    picture = plugin.get_by_test_id("data-map").locator("canvas")
    expect_drawn(picture)
    box = picture.bounding_box()
    assert box is not None

    watched.page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] * 0.5)
    watched.page.mouse.down()
    watched.page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.7, steps=4)
    # It ends outside of the picture.
    watched.page.mouse.move(box["x"] - 30, box["y"] + box["height"] + 5, steps=4)
    watched.page.mouse.up()

    expect(plugin.get_by_test_id("filter-box")).to_be_visible()
    ends = re.search(r"p\.batchview\.box=([\d.]+)~([\d.]+)~([\d.]+)~([\d.]+)", watched.page.url)
    assert ends is not None, watched.page.url
    low, high, least, most = map(np.float32, ends.groups())
    inside = (found.mean_target_score >= low) & (found.mean_target_score <= high)
    inside &= (found.variability >= least) & (found.variability <= most)
    assert 0 < np.count_nonzero(inside) < 90
    expect(plugin.get_by_test_id("samples-count")).to_contain_text(f"{np.count_nonzero(inside)} match")
    watched.page.reload()
    expect(plugin.get_by_test_id("samples-count")).to_contain_text(f"{np.count_nonzero(inside)} match")
    expect_drawn(picture)
    picture.focus()
    watched.page.keyboard.press("ArrowRight")
    expect(plugin.get_by_test_id("data-map").locator(".tip")).to_contain_text("train/images/img_")
    watched.page.keyboard.press("Enter")
    expect(plugin.get_by_test_id("history-strip")).to_be_visible()
    plugin.get_by_test_id("filters-off").click()
    expect(plugin.get_by_test_id("samples-count")).to_contain_text("720 match")


def test_slash_searches_an_id_and_ranges_narrow(watched: Watched, known: Path, lab_tensorboard: str) -> None:
    table = load(known)["known"].to_pandas("train")
    open_plugin(watched, lab_tensorboard, run="known", tab="samples")
    plugin = watched.plugin
    count = plugin.get_by_test_id("samples-count")
    expect(count).to_contain_text("720 match")
    plugin.get_by_test_id("sentence").click()

    watched.page.keyboard.press("/")
    expect(plugin.get_by_test_id("id-search")).to_be_focused()
    watched.page.keyboard.type("IMG_01")
    watched.page.keyboard.press("Enter")
    expect(count).to_contain_text("80 match")
    plugin.get_by_test_id("filter-id-part").click()
    expect(count).to_contain_text("720 match")
    plugin.get_by_test_id("confidence-min").fill("0.5")
    plugin.get_by_test_id("loss-max").fill("0.4")
    plugin.get_by_test_id("loss-max").press("Enter")
    plugin.get_by_test_id("choose-target").select_option("dog")
    expected = table[(table.confidence >= 0.5) & (table.sample_loss <= np.float32(0.4)) & (table.target == 1)]
    expect(count).to_contain_text(f"{len(expected)} match")


def test_hostile_ids_are_text(watched: Watched, known: Path, lab_tensorboard: str) -> None:
    open_plugin(watched, lab_tensorboard, run="hostile-ids", tab="samples", each="last", sampleSort="step")
    plugin = watched.plugin
    table = plugin.get_by_test_id("samples-table")
    expect(plugin.get_by_test_id("samples-count")).to_contain_text("12 match")
    expect_drawn(plugin.get_by_test_id("data-map").locator("canvas"))

    shown = set()
    for number in range(12):
        name = read_row(table, number)[0]
        table.locator(f"tr[aria-rowindex='{number + 2}']").click()
        expect(plugin.get_by_test_id("history-strip").locator("button")).to_have_count(8)
        heading = plugin.get_by_test_id("sample").get_by_role("heading").inner_text()
        shown.add(name)
        assert heading.startswith("Sample ")

    assert HOSTILE_NAMES[0] in shown
    assert any("emoji" in name for name in shown)
    assert any(name.startswith("long xxx") for name in shown)
    assert {HOSTILE_NAMES[5], "“”"} <= shown
    assert watched.frame.locator("img, script[src=x]").count() == 0
    assert watched.page.evaluate("window.hacked === undefined")
    assert watched.frame.evaluate("document.documentElement.scrollWidth <= innerWidth")


# -- pictures of each task ---------------------------------------------------------------------------------------------


DRIFT_NAMES = ["red", "green", "blue", "black", "white"]
TAG_NAMES = ["cat", "dog", "sky", "food"]
TASK_BATCHES, TASK_SAMPLES = 24, 32


def make_task(task: str) -> tuple[np.ndarray, np.ndarray]:
    """Return targets and scores, shape (batches, samples, …), as the runs of `tasks` have them."""
    rng = np.random.default_rng(11)
    shape = (TASK_BATCHES, TASK_SAMPLES)
    if task == "multiclass":
        targets = rng.integers(0, 5, shape)
        # Each class is learned but for "blue", which is lost again half-way.
        lost = (targets == 2) & (np.arange(TASK_BATCHES)[:, None] >= 12)
        predicted = np.where((rng.random(shape) < 0.75) & ~lost, targets, (targets + 1) % 5)
        confidence = rng.uniform(0.4, 0.99, shape)
        scores = np.broadcast_to((1 - confidence)[..., None] / 4, (*shape, 5)).copy()
        np.put_along_axis(scores, predicted[..., None], confidence[..., None], -1)
    elif task == "binary":
        targets = rng.integers(0, 2, shape)
        scores = 1 / (1 + np.exp(-(rng.normal(size=shape) + 2 * targets - 1)))
    elif task == "regression":
        targets = rng.normal(30, 10, (*shape, 2))
        scores = targets + rng.normal(0, [2, 5], (*shape, 2))
    else:
        targets = rng.integers(0, 2, (*shape, 4))
        flipped = rng.random((*shape, 4)) < rng.random((*shape, 1)) * [0.1, 0.3, 0.5, 0.4]
        scores = np.where(flipped, 1 - targets, targets) * 0.6 + 0.2
    return targets, scores.astype(np.float32)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    logdir = tmp_path_factory.mktemp("tasks")
    names: dict[str, list[str] | None] = {
        "multiclass": DRIFT_NAMES,
        "binary": ["ham", "spam"],
        "regression": None,
        "multilabel": TAG_NAMES,
    }
    for task, class_names in names.items():
        targets, scores = make_task(task)
        with BatchWriter(logdir / task, task=task, class_names=class_names) as writer:
            for target, score in zip(targets, scores, strict=True):
                writer.add_batch(predictions=score[:, None] if task == "binary" else score, targets=target, loss=1.0)
    return logdir


@pytest.fixture
def tasks_tensorboard(start: Callable[..., str], tasks: Path) -> str:
    return start(tasks)


def open_task(watched: Watched, address: str, task: str, **state: Any) -> None:
    open_plugin(watched, address, run=task, tab="classes", **state)
    expect(watched.plugin.get_by_text("Loading…")).to_have_count(0)


def read_csv(watched: Watched, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(download(watched, name).decode())))


def read_tip(picture: Locator, x: float, y: float) -> str:
    """Hover a picture at shares of its width and height; return what is told."""
    canvas = picture.locator("canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    canvas.hover(position={"x": box["width"] * x, "y": box["height"] * y})
    return picture.locator(".tip").inner_text()


def read_said(picture: Locator) -> str:
    return picture.locator("[aria-live]").inner_text()


def test_each_class_over_time_leads_to_its_samples_of_then(watched: Watched, tasks_tensorboard: str) -> None:
    targets, scores = make_task("multiclass")
    predicted = scores.argmax(-1)
    recall = [(predicted == targets)[targets == label].mean() for label in range(5)]
    order = np.argsort(recall, kind="stable")
    open_task(watched, tasks_tensorboard, "multiclass")
    plugin, heatmap = watched.plugin, watched.plugin.get_by_test_id("trend-heatmap")
    expect_drawn(heatmap.locator("canvas"))
    lines = plugin.get_by_test_id("classes-table").get_by_role("img")
    expect(lines).to_have_count(5)

    # A class has too few samples for a window a batch: 12 of two.
    told = read_tip(heatmap, 0.6, 0.1)
    hit = re.match(r"class (\w+)\nbatches (\d+)–(\d+)\n(.+).% not found: (\d+) of (\d+) samples\n(\d+) predicted", told)
    assert hit is not None, told
    label, first, last = DRIFT_NAMES.index(hit[1]), int(hit[2]), int(hit[3])
    window = slice(first, last + 1)
    assert (first % 2, last) == (0, first + 1)
    here = targets[window] == label
    missed, support = int((predicted[window] != label)[here].sum()), int(here.sum())
    assert [int(hit[number]) for number in (5, 6, 7)] == [missed, support, int((predicted[window] == label).sum())]
    assert float(hit[4]) == pytest.approx(100 * missed / support, rel=1e-8)

    worst = DRIFT_NAMES[order[0]]
    assert worst == "blue"
    assert read_row(plugin.get_by_test_id("classes-table"), 0)[0] == worst
    found, all_of_it = ((mask & (targets == 2)).reshape(12, -1).sum(1) for mask in (predicted == 2, targets == 2))
    expect(lines.first).to_have_attribute("aria-label", re.compile(rf"^recall {100 * found[0] / all_of_it[0]:.1f}"))
    rows = read_csv(watched, "trend-csv")
    assert [row["name"] for row in rows[::12]] == [DRIFT_NAMES[label] for label in order]
    assert [int(row["hits"]) for row in rows[:12]] == found.tolist()
    assert [int(row["support"]) for row in rows[:12]] == all_of_it.tolist()
    assert Image.open(io.BytesIO(download(watched, "trend-png"))).width > 500

    heatmap.locator("canvas").focus()
    for key in ("ArrowDown", "ArrowDown", "End", "ArrowLeft"):
        watched.page.keyboard.press(key)
    assert read_said(heatmap).startswith(f"class {DRIFT_NAMES[order[1]]}. batches 20–21. ")
    watched.page.keyboard.press("Enter")
    expect(plugin.get_by_test_id("sentence")).to_contain_text("batches 20–21 of 24")
    heading = plugin.get_by_test_id("confusion-samples").get_by_role("heading")
    expect(heading).to_have_text(f"target {DRIFT_NAMES[order[1]]}")
    expect(plugin.get_by_test_id("confusion-samples")).to_contain_text(f"{(targets[20:22] == order[1]).sum()} sample")


def test_reliability_is_that_of_the_scores_and_folds_away(watched: Watched, tasks_tensorboard: str) -> None:
    targets, scores = make_task("multiclass")
    confidence, right = scores.max(-1).ravel(), (scores.argmax(-1) == targets).ravel()
    bins = np.minimum((confidence * 15).astype(int), 14)
    error = sum(
        abs(right[bins == number].mean() - confidence[bins == number].mean()) * (bins == number).mean()
        for number in np.unique(bins)
    )
    open_task(watched, tasks_tensorboard, "multiclass")
    panel = watched.plugin.get_by_test_id("calibration")
    diagram = watched.plugin.get_by_test_id("calibration-diagram")
    expect_drawn(diagram.locator("canvas"))

    figures = watched.plugin.get_by_test_id("calibration-figures")
    assert float(figures.locator("dd").first.get_attribute("title") or "") == pytest.approx(error, abs=2e-3)
    expect(figures).to_contain_text(re.compile(rf"samples\s*{confidence.size}"))
    expect(panel).to_contain_text("dropout")
    rows = read_csv(watched, "calibration-csv")
    counts = np.array([int(row["count"]) for row in rows])
    # Confidences are counted in steps of 1/1,024: one that is so close to the next bin may be in that.
    assert np.abs(counts - np.bincount(bins, minlength=15)).max() <= 2
    assert counts.sum() == confidence.size
    diagram.locator("canvas").focus()
    watched.page.keyboard.press("ArrowRight")
    watched.page.keyboard.press("End")
    assert f"{counts[14]} samples. accuracy {100 * float(rows[14]['accuracy']):.3f}" in read_said(diagram)

    watched.plugin.get_by_test_id("calibration-fold").click()
    expect(diagram).to_have_count(0)
    asked: list[str] = []
    watched.page.on("request", lambda request: asked.append(request.url))
    watched.page.reload()
    expect(watched.plugin.get_by_test_id("trend-heatmap")).to_be_visible()
    expect(watched.plugin.get_by_test_id("calibration-fold")).to_have_attribute("aria-expanded", "false")
    assert any("/class_trend?" in url for url in asked)
    assert not any("/calibration?" in url for url in asked)


def test_threshold_moves_by_keys_and_on_the_curves(watched: Watched, tasks_tensorboard: str) -> None:
    targets, scores = (values.ravel() for values in make_task("binary"))
    open_task(watched, tasks_tensorboard, "binary", threshold=0.75)
    plugin = watched.plugin
    slider, shown = plugin.get_by_test_id("threshold"), plugin.get_by_test_id("threshold-value")
    roc, recall = plugin.get_by_test_id("roc-curve"), plugin.get_by_test_id("precision-recall-curve")
    for curve in (roc, recall):
        expect_drawn(curve.locator("canvas"))
    expect(plugin.get_by_test_id("roc")).to_contain_text(f"(AUC) {metrics.roc_auc_score(targets, scores):.3f}")
    precision = metrics.average_precision_score(targets, scores)
    told = re.search(r"average precision ([\d.]+)", plugin.get_by_test_id("precision-recall").inner_text())
    assert told is not None
    assert float(told[1]) == pytest.approx(precision, abs=2e-3)

    def expect_counts(index: int) -> None:
        positive = np.floor(scores * 1024) >= index
        counts = metrics.confusion_matrix(targets, positive).ravel().tolist()
        expect(plugin.get_by_test_id("threshold-counts").locator("tbody td")).to_have_text([f"{n:,}" for n in counts])

    expect(slider).to_have_value("768")
    expect_counts(768)
    before = [curve.locator("canvas").evaluate("canvas => canvas.toDataURL()") for curve in (roc, recall)]
    slider.focus()
    watched.page.keyboard.press("PageDown")
    for _ in range(3):
        watched.page.keyboard.press("ArrowLeft")
    index = int(slider.input_value())
    assert index < 765
    expect(shown).to_have_text(f"{index / 1024:.3f}")
    expect_counts(index)
    expect(plugin.get_by_test_id("tab-classes")).to_have_attribute("aria-selected", "true")
    wait_until(lambda: read_address(watched, "threshold") == f"{index / 1024:.6g}", "the threshold in the address")
    for curve, old in zip((roc, recall), before, strict=True):
        assert curve.locator("canvas").evaluate("canvas => canvas.toDataURL()") != old  # marked on both

    roc.locator("canvas").focus()
    watched.page.keyboard.press("ArrowRight")
    watched.page.keyboard.press("PageUp")
    told = re.search(r"threshold ([\d.]+)\.", read_said(roc))
    assert told is not None
    watched.page.keyboard.press("Enter")
    expect(shown).to_have_text(f"{float(told[1]):.3f}")
    expect_counts(round(float(told[1]) * 1024))
    wait_until(lambda: read_address(watched, "threshold") == f"{float(told[1]):.6g}", "the threshold of the curve")
    watched.page.reload()
    expect(shown).to_have_text(f"{float(told[1]):.3f}")
    row = read_csv(watched, "thresholds-csv")[round(float(told[1]) * 1024)]
    assert float(row["recall"]) == pytest.approx(int(row["tp"]) / targets.sum())


def test_residuals_lead_to_the_samples_behind_them(watched: Watched, tasks_tensorboard: str) -> None:
    targets, predicted = make_task("regression")
    open_task(watched, tasks_tensorboard, "regression")
    plugin = watched.plugin
    for name in ("scatter", "time", "spread"):
        expect_drawn(plugin.get_by_test_id(f"{name}-picture").locator("canvas"))
    expect(plugin.get_by_test_id("scatter")).to_contain_text(f"all {TASK_BATCHES * TASK_SAMPLES} samples")
    error = np.abs(predicted - targets).mean(-1)
    step, sample = np.unravel_index(error.argmax(), error.shape)
    row = read_row(plugin.get_by_test_id("worst-table"), 0)
    assert row[:2] == [str(step), f"#{sample}"]
    residual = predicted[step, sample, 0] - targets[step, sample, 0]
    assert float(row[4].replace("−", "-")) == pytest.approx(residual, rel=2e-3)

    plugin.get_by_test_id("value").select_option("1")
    expect(plugin.get_by_text("Loading…")).to_have_count(0)
    wait_until(lambda: read_address(watched, "value") == "1", "the value in the address")
    residual = (predicted - targets)[..., 1]

    def read_rows() -> np.ndarray:
        rows = read_csv(watched, "time-csv")
        return np.array([[float(row[name]) for name in ("step", "sample", "residual")] for row in rows])

    wait_until(lambda: abs(read_rows()[0, 2] - residual[0, 0]) < 1e-4, "the residuals of the other value")
    assert read_rows()[:, 2] == pytest.approx(residual.ravel(), abs=1e-4)
    counts = [int(row["count"]) for row in read_csv(watched, "spread-csv")]
    assert sum(counts) == residual.size

    scatter = plugin.get_by_test_id("scatter-picture")
    scatter.locator("canvas").focus()
    watched.page.keyboard.press("End")
    watched.page.keyboard.press("End")
    step, sample = np.unravel_index(targets[..., 1].argmax(), error.shape)
    said = read_said(scatter)
    assert said.startswith(f"batch {step}, sample #{sample}. target {targets[step, sample, 1]:.4f}"[:-2])
    watched.page.keyboard.press("Enter")
    expect(plugin.get_by_test_id("sample")).to_contain_text(f"Sample #{sample}")
    assert read_address(watched, "sample") == f"{step}.{sample}"
    plugin.get_by_test_id("worst-table").locator("tr[aria-rowindex='2']").click()
    step, sample = np.unravel_index(error.argmax(), error.shape)
    expect(plugin.get_by_test_id("sample")).to_contain_text(f"Sample #{sample}")
    assert read_tip(plugin.get_by_test_id("spread-picture"), 0.55, 0.3).endswith("%")


def test_labels_wrong_together_are_counted(watched: Watched, tasks_tensorboard: str) -> None:
    targets, scores = make_task("multilabel")
    wrong = ((scores >= 0.5) != targets).reshape(-1, 4).astype(int)
    together = wrong.T @ wrong
    open_task(watched, tasks_tensorboard, "multilabel")
    plugin, matrix = watched.plugin, watched.plugin.get_by_test_id("together-matrix")
    expect_drawn(matrix.locator("canvas"))
    expect(plugin.get_by_test_id("confusion")).to_have_count(0)
    expect(plugin.get_by_test_id("classes-table").get_by_role("img")).to_have_count(4)

    matrix.locator("canvas").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowRight"):
        watched.page.keyboard.press(key)
    said = matrix.locator("[aria-live]")
    expect(said).to_contain_text(f"cat and sky. both wrong of {together[0, 2]} samples")
    expect(said).to_contain_text(f"of the {together[2, 2]} where sky is wrong")
    sheet = list(csv.reader(io.StringIO(download(watched, "together-csv").decode())))
    shares = np.array([row[1:] for row in sheet[1:]], float)
    assert shares == pytest.approx(together / np.diag(together)[:, None])
    plugin.get_by_test_id("together-count").click()
    expect(plugin.get_by_test_id("together-count")).to_have_attribute("aria-pressed", "true")
    assert len(Image.open(io.BytesIO(download(watched, "together-png"))).convert("RGB").getcolors(1 << 20)) > 20

    heatmap = plugin.get_by_test_id("trend-heatmap")
    told = read_tip(heatmap, 0.6, 0.1)
    heatmap.locator("canvas").click(position={"x": 300, "y": 20})
    expect(plugin.get_by_test_id("sentence")).to_contain_text("batches 10–11 of 24")
    assert told.startswith("label ")
    assert read_address(watched, "target") is None


@pytest.mark.parametrize("task", ["multiclass", "binary", "regression", "multilabel"])
def test_pictures_of_each_task_fit_a_narrow_window(watched: Watched, tasks_tensorboard: str, task: str) -> None:
    watched.page.set_viewport_size({"width": 400, "height": 900})
    open_task(watched, tasks_tensorboard, task)
    pictures = watched.plugin.locator("bv-plane, bv-trend, bv-matrix")
    wait_until(lambda: pictures.count() >= 2, "the pictures")

    for number in range(pictures.count()):
        expect_drawn(pictures.nth(number).locator("canvas"))
    assert watched.frame.evaluate("document.documentElement.scrollWidth <= innerWidth")
    content = watched.plugin.get_by_test_id("content")
    assert content.evaluate("content => content.scrollWidth <= content.clientWidth")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    logdir = tmp_path_factory.mktemp("pair")
    write_pair(logdir)
    return logdir


@pytest.fixture
def pair_tensorboard(start: Callable[..., str], pair: Path) -> str:
    return start(pair)


def test_two_runs_are_compared_in_every_tab(watched: Watched, pair_tensorboard: str, pair: Path) -> None:
    open_plugin(watched, pair_tensorboard, run="wide")
    plugin = watched.plugin
    asked: list[str] = []
    watched.page.on("request", lambda request: asked.append(request.url))
    open_tab(watched, "layers")
    expect_drawn(plugin.get_by_test_id("layer-heatmap").locator("canvas"))
    open_tab(watched, "batches")
    assert not [url for url in asked if "narrow" in url or "against" in url]

    plugin.get_by_test_id("run-b").select_option("narrow")

    expect(plugin.get_by_test_id("sentence-b")).to_contain_text("A wide against B narrow")
    for name in ("compared-loss", "compared-error"):
        expect_drawn(plugin.get_by_test_id(name).locator("canvas"))
    runs = load(pair)
    losses = {name: [batch.loss for batch in runs[name].batches("train")] for name in EPOCHS}
    per_epoch = len(losses["wide"]) // EPOCHS["wide"]
    for run, hook in zip(EPOCHS, ("spikes", "spikes-b"), strict=True):
        table = plugin.get_by_test_id(f"{hook}-table")
        steps = {str(per_epoch * epoch + index) for epoch, index in SPIKES[run]}
        assert {read_row(table, number)[0] for number in range(len(steps))} == steps
    rows = plugin.get_by_test_id("figures-b").locator("tr")
    means = [rows.nth(number).locator("td").nth(2).inner_text() for number in (1, 2)]
    assert means == [f"{np.mean(losses[name]):.4g}" for name in EPOCHS]
    plugin.get_by_test_id("batches-table").locator("th[data-column=loss_change] button").click()
    worst = max(range(len(losses["narrow"])), key=lambda step: losses["wide"][step] - losses["narrow"][step])
    assert read_row(plugin.get_by_test_id("batches-table"), 0)[0] == str(worst)

    open_tab(watched, "classes")
    expect_drawn(plugin.get_by_test_id("delta-matrix").locator("canvas"))
    reports = {name: runs[name].class_report("train") for name in EPOCHS}
    # "narrow" has its classes in the other order.
    changes = reports["wide"].recall - reports["narrow"].recall[::-1]
    table = plugin.get_by_test_id("classes-table")
    expect(table.locator("th[aria-sort=ascending]")).to_have_attribute("data-column", "recall_change")
    assert [read_row(table, number)[0] for number in range(6)] == [NAMES[number] for number in np.argsort(changes)]
    assert "\u2260" in read_row(table, 5)[6]
    expect(plugin.get_by_test_id("overall-b")).to_contain_text("matched by name")
    errors = [runs[name].calibration("train").error for name in EPOCHS]
    figures = plugin.get_by_test_id("calibration-figures").locator("tbody tr")
    assert [figures.nth(row).locator("td").first.inner_text() for row in (0, 1)] == [
        f"{100 * error:.1f}\u00a0%" for error in errors
    ]
    tip = read_tip(plugin.get_by_test_id("calibration-diagram"), 0.5, 0.5)
    assert re.search(r"^confidence .*\nA .* accuracy .*\nB .* accuracy ", tip)
    order = plugin.get_by_test_id("delta-order")
    order.select_option("name")
    table = list(csv.reader(io.StringIO(download(watched, "delta-csv").decode())))
    assert [row[1] for row in table[1:]] == sorted(row[1] for row in table[1:])
    assert len(Image.open(io.BytesIO(download(watched, "delta-png"))).convert("RGB").getcolors(1 << 20)) > 20
    trend = plugin.get_by_test_id("trend-heatmap-b")
    expect_drawn(trend.locator("canvas"))
    # The classes of B, which has them in the other order, stand in the rows of A's.
    first = NAMES[int(np.argmin(changes))]
    assert f"class {first}\n" in read_tip(trend, 0.5, 0.02 + 8 / trend.bounding_box()["height"])
    assert read_csv(watched, "trend-b-csv")[0]["name"] == first
    assert Image.open(io.BytesIO(download(watched, "trend-b-png"))).format == "PNG"
    expect(plugin.get_by_test_id("trend-lines")).to_contain_text(f"{first}: share not found, A and B")
    plugin.get_by_test_id("delta-matrix").locator("canvas").click()
    expect(plugin.get_by_test_id("confusion-samples")).to_be_visible()

    open_tab(watched, "layers")
    norms = [runs[name].gradients("dense").norm[-1] for name in EPOCHS]
    figures = plugin.get_by_test_id("layer-figures").locator("tbody tr")
    assert [figures.nth(row).locator("td").last.inner_text() for row in (0, 1)] == [f"{norm:#.4g}" for norm in norms]
    pictures = [f"compared-{name}" for name in ("mean", "zeros", "norm", "dead")]
    pictures += [f"compared-{kind}{name}" for kind in ("", "gradient-") for name in ("heatmap-a", "heatmap-b")]
    pictures += [f"compared-{kind}ridgeline-{side}" for kind in ("", "gradient-") for side in "ab"]
    pictures += ["gradient-norms", "gradient-norms-b", "unit-heatmap", "unit-heatmap-b"]
    for name in pictures:
        expect_drawn(plugin.get_by_test_id(name).locator("canvas").first)
    ends = [
        re.search(r"from (\S+) to (\S+) over", plugin.get_by_test_id(f"compared-heatmap-{side}").get_attribute("label"))
        for side in "ab"
    ]
    assert ends[0] is not None
    assert ends[0].groups() == ends[1].groups()
    plugin.get_by_test_id("layers-table").get_by_text("conv", exact=True).click()
    expect(plugin.get_by_test_id("lone-layer")).to_contain_text("Run B has no summaries of conv")
    plugin.get_by_test_id("layers-table").get_by_text("relu", exact=True).click()
    expect(plugin.get_by_test_id("layer-b")).to_contain_text("in B relu_1, matched by its place")
    spreads = [runs[name].layer(layer).std[-1] for name, layer in zip(EPOCHS, ("relu", "relu_1"), strict=True)]
    figures = plugin.get_by_test_id("layer-figures").locator("tbody tr")
    assert [figures.nth(row).locator("td").nth(1).inner_text() for row in (0, 1)] == [f"{std:#.4g}" for std in spreads]
    for name in ("compared-mean", "compared-heatmap-b", "unit-heatmap-b"):
        expect_drawn(plugin.get_by_test_id(name).locator("canvas").first)

    watched.page.reload()
    expect(plugin.get_by_test_id("run-b")).to_have_value("narrow")
    plugin.get_by_test_id("swap").click()
    expect(plugin.get_by_test_id("run")).to_have_value("narrow")
    plugin.get_by_test_id("clear-b").click()
    expect(plugin.get_by_test_id("sentence-b")).to_have_count(0)
    assert read_address(watched, "runB") is None


def test_pictures_of_each_task_show_both_runs(watched: Watched, pair_tensorboard: str) -> None:
    plugin = watched.plugin

    def read_figures(name: str) -> list[list[str]]:
        rows = plugin.get_by_test_id(name).locator("tbody tr")
        expect(rows.first).to_be_visible()
        return [rows.nth(row).locator("td").all_inner_texts() for row in (0, 1)]

    def open_pair(task: str) -> list[tuple[np.ndarray, np.ndarray]]:
        open_task(watched, pair_tensorboard, f"{task}-first", runB=f"{task}-second")
        return [tuple(map(np.ravel, draw_task(task, run)))[::-1] for run in ("first", "second")]

    drawn = open_pair("binary")
    areas = [f"{metrics.roc_auc_score(*values):.3f}" for values in drawn]
    precisions = [f"{metrics.average_precision_score(*values):.3f}" for values in drawn]
    found = read_figures("threshold-figures-b")
    assert [row[-2:] for row in found] == [list(row) for row in zip(areas, precisions, strict=True)]
    curve = plugin.get_by_test_id("roc-curve")
    curve.locator("canvas").focus()
    watched.page.keyboard.press("End")
    said = re.search(r"threshold ([\d.]+)\. A recall ([\d.]+).*B recall ([\d.]+)", read_said(curve))
    assert said is not None
    threshold, *recalls = map(float, said.groups())
    expected = [100 * np.mean(scores[targets == 1] >= threshold) for targets, scores in drawn]
    assert recalls == pytest.approx(expected)

    drawn = open_pair("regression")
    roots = [f"{np.sqrt(np.mean((scores - targets.astype(np.float32)) ** 2)):#.4g}" for targets, scores in drawn]
    assert [row[0] for row in read_figures("residual-figures")] == roots
    for name in ("scatter", "scatter-b", "time", "spread"):
        expect_drawn(plugin.get_by_test_id(f"{name}-picture").locator("canvas"))
    assert re.search(r"\nA .*\nB ", read_tip(plugin.get_by_test_id("spread-picture"), 0.45, 0.7))

    open_pair("multilabel")
    wrong = []
    for run in ("first", "second"):
        scores, targets = draw_task("multilabel", run)
        off = ((scores >= 0.5) != targets).reshape(-1, 4).astype(int)
        both = off.T @ off
        wrong.append(both / np.diag(both)[:, None])
    rows = list(csv.DictReader(io.StringIO(download(watched, "together-csv").decode())))
    changes = {(row["label_name"], row["wrong_with_name"]): float(row["change_row"]) for row in rows}
    for place, change in np.ndenumerate(wrong[0] - wrong[1]):
        names = tuple(TAG_NAMES[number] for number in place)
        assert changes[names] == pytest.approx(change)


def test_samples_of_two_runs_are_put_beside_each_other(watched: Watched, pair_tensorboard: str, pair: Path) -> None:
    runs = load(pair)
    right: dict[str, dict[str, bool]] = {name: {} for name in EPOCHS}
    for name, seen in right.items():
        for batch in runs[name].batches("train"):  # the last time counts
            seen.update(zip(batch.sample_ids.tolist(), (batch.target == batch.predicted).tolist(), strict=True))
    only_a = {item for item, correct in right["wide"].items() if correct and not right["narrow"][item]}
    open_plugin(watched, pair_tensorboard, run="wide", runB="narrow", tab="samples")
    plugin = watched.plugin
    expect(plugin.get_by_test_id("joined-count")).to_contain_text("96 samples in both")
    cell = plugin.get_by_test_id("joint-only_a")
    expect(cell).to_contain_text(f"only A right {len(only_a)}")

    cell.click()

    table = plugin.get_by_test_id("joined-table")
    expect(table.locator("table")).to_have_attribute("aria-rowcount", str(len(only_a) + 1))
    rows = [read_row(table, number) for number in range(3)]
    assert {row[0] for row in rows} <= only_a
    # Of the other order of the classes in B nothing is to be seen.
    assert all(row[2] == f"\u2713 {row[1]}" and row[3].startswith("\u2717") for row in rows)
    assert read_address(watched, "joint") == "only_a"
    content = download(watched, "csv").decode()
    assert {row["id"] for row in csv.DictReader(io.StringIO(content))} == only_a
    table.locator("tr[aria-rowindex='2']").click()
    expect(plugin.get_by_test_id("sample").get_by_role("heading").first).to_contain_text(rows[0][0])


def test_two_ranges_of_a_run_are_compared(watched: Watched, pair_tensorboard: str) -> None:
    open_plugin(watched, pair_tensorboard, run="wide", start=30)
    plugin = watched.plugin

    plugin.get_by_test_id("run-b").select_option("wide")

    expect(plugin.get_by_test_id("range-b-last")).to_have_value("29")
    expect(plugin.get_by_test_id("compared-loss")).to_contain_text("because their steps differ")
    expect(plugin.get_by_test_id("axis-share")).to_have_attribute("aria-pressed", "true")
    canvas = plugin.get_by_test_id("compared-loss").locator(".u-over")
    canvas.click(position={"x": 2, "y": 20})
    expect(plugin.get_by_test_id("batch-title")).to_contain_text("Batch 30")
    # A batch of the other range has another step: there is nothing to subtract.
    expect(plugin.get_by_test_id("batches-table").locator("th[data-column=loss_change]")).to_have_count(0)
    plugin.get_by_test_id("range-b-first").fill("10")
    plugin.get_by_test_id("range-b-first").press("Enter")
    expect(plugin.get_by_test_id("sentence-b")).to_contain_text("batches 10–29")
    plugin.get_by_test_id("phase-b").get_by_text("validation").click()
    expect(plugin.get_by_test_id("sentence-b")).to_contain_text("validation")


@pytest.mark.parametrize("tab", ["batches", "classes", "samples", "layers"])
def test_what_cannot_be_compared_is_said(watched: Watched, pair_tensorboard: str, tab: str) -> None:
    open_plugin(watched, pair_tensorboard, run="wide", runB="ages", tab=tab)
    expect(watched.plugin.get_by_test_id("notes-b")).to_contain_text("classes and errors cannot")
    expect(watched.plugin.get_by_text("Loading…")).to_have_count(0)

    open_plugin(watched, pair_tensorboard, run="wide", runB="deleted", tab=tab)
    watched.page.reload()
    expect(watched.plugin.get_by_test_id("missing-b")).to_contain_text("“deleted”")
    expect(watched.plugin.get_by_test_id("content").locator("table, canvas").first).to_be_visible()


@pytest.mark.parametrize(
    ("run", "other", "tab"),
    [
        *(("wide", "narrow", tab) for tab in ("batches", "classes", "layers")),
        *((f"{task}-first", f"{task}-second", "classes") for task in TASKS),
    ],
)
def test_comparison_fits_a_narrow_window(
    watched: Watched, pair_tensorboard: str, run: str, other: str, tab: str
) -> None:
    watched.page.set_viewport_size({"width": 480, "height": 900})
    open_plugin(watched, pair_tensorboard, run=run, runB=other, tab=tab)
    expect(watched.plugin.get_by_test_id("sentence-b")).to_contain_text(other)
    expect(watched.plugin.get_by_text("Loading…")).to_have_count(0)
    expect(watched.plugin.locator("canvas").first).to_be_visible()
    over = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
    wait_until(lambda: watched.frame.evaluate(over) <= 0, "a page no wider than its window")


def test_page_grows_while_training_writes(watched: Watched, lab: Path, lab_tensorboard: str) -> None:
    with BatchWriter(lab / "growing") as writer:
        add_batches(writer, 5, 3)
        open_plugin(watched, lab_tensorboard)
        watched.plugin.get_by_test_id("run").select_option("growing")
        badge = watched.plugin.get_by_test_id("badge")
        expect(badge).to_contain_text("5 of 5 batches")

        add_batches(writer, 20, 3, seed=1)
        expect(badge).to_contain_text("25 of 25 batches")
        expect(watched.plugin.get_by_test_id("batch-title")).to_contain_text("Batch 24")

        badge.click()  # stops following
        expect(badge).to_contain_text("not live")
        add_batches(writer, 5, 3, seed=2)

        def reload() -> bool:
            # The plugin looks at the files at most once a second: an early click shows the same.
            watched.page.locator("button.reload-button").click()
            return "30 of 30 batches" in badge.inner_text()

        wait_until(reload, "the batches after a reload", every=0.5)


def test_page_shows_how_far_a_run_is_read_and_then_all_of_it(watched: Watched, tmp_path: Path) -> None:
    with BatchWriter(tmp_path / "large") as writer:
        add_batches(writer, 200, 3)
    held_up = (str(Path(__file__).parent / "browser" / "held_up.py"),)
    with run_tensorboard(tmp_path, main=held_up) as address:
        open_plugin(watched, address, tab="classes")
        plugin = watched.plugin
        badge, sentence = plugin.get_by_test_id("badge"), plugin.get_by_test_id("sentence")

        expect(badge).to_contain_text(re.compile(r"still indexing · 4\d\s%"))
        expect(plugin.get_by_role("progressbar", name="Event files read")).to_be_visible()
        expect(plugin.get_by_test_id("so-far")).to_contain_text("Figures are of what was read so far")
        # The file's version is a record too.
        expect(sentence).to_contain_text("89 batches read so far · epoch 0 · 1,424 samples")
        expect_drawn(plugin.get_by_test_id("confusion-matrix").locator("canvas"))
        badge.click()  # whether or not anybody follows the training
        expect(badge).to_contain_text("not live")

        (tmp_path / "go").touch()

        expect(badge).to_contain_text("200 of 200 batches")
        expect(sentence).to_contain_text("all 200 batches · epoch 0 · 3,200 samples")
        expect(plugin.get_by_role("progressbar")).to_have_count(0)
        watched.page.goto("about:blank")


def test_empty_logdir_shows_what_to_add(watched: Watched, start: Callable[..., str], tmp_path: Path) -> None:
    watched.page.goto(f"{start(tmp_path)}#batchview")

    expect(watched.plugin.get_by_test_id("empty")).to_contain_text("BatchViewCallback")
    expect(watched.plugin.get_by_test_id("logdir")).to_have_text(str(tmp_path))


def test_watching_a_page_finds_what_is_wrong(watched: Watched, tensorboard: str) -> None:
    """The other tests rest on it."""
    open_plugin(watched, tensorboard)
    wrong = """() => {
        console.error("said by the page");
        const script = document.createElement("script");
        script.textContent = "parent.hacked = 1";
        document.body.append(script);
        setTimeout(() => { throw new Error("thrown by the page"); });
        return fetch("no/such/route");
    }"""

    watched.frame.evaluate(wrong)

    expected = [
        "console: said by the page",
        "CSP violation in",
        "exception: .*thrown by the page",
        "404: .*no/such/route",
    ]
    for pattern in expected:
        wait_until(lambda pattern=pattern: any(re.search(pattern, error) for error in watched.errors), pattern)
    assert watched.page.evaluate("window.hacked === undefined")
    watched.errors.clear()


def test_units_and_gradients_of_a_layer_are_those_recorded(
    watched: Watched, tensorboard: str, demo_logdir: Path
) -> None:
    layer = load(demo_logdir)[RUN].layer("dense")
    open_plugin(watched, tensorboard, tab="layers", layer="dense")
    plugin = watched.plugin
    for hook in ("gradient-norms", "layer-heatmap", "gradient-heatmap", "gradient-ridgeline", "unit-heatmap"):
        expect_drawn(plugin.get_by_test_id(hook).locator("canvas"))
    assert read_row(plugin.get_by_test_id("layers-table"), 2)[:2] == ["dense", "64"]
    # What comes late moves the picture away from under the mouse.
    expect(plugin.get_by_test_id("dead-list")).to_be_visible()
    expect_drawn(plugin.get_by_test_id("layer-ridgeline").locator("canvas"))
    expect_settled(watched)

    # Under the mouse: the mean of a unit in a batch, with all its digits.
    heatmap = plugin.get_by_test_id("unit-heatmap")
    canvas, tip = heatmap.locator("canvas"), heatmap.locator(".tip")
    box = canvas.bounding_box()
    assert box is not None
    left, top, right, below = 76, 6, 10, 62  # as charts/time_heatmap.ts lays it out
    steps, units = layer.unit_means.shape
    window, unit = 7, 40
    x = left + (window + 0.5) / steps * (box["width"] - left - right)
    y = top + (unit + 0.5) / units * (box["height"] - top - below)
    canvas.hover(position={"x": x, "y": y})
    expect(tip).to_contain_text(f"unit {unit} · batch {layer.steps[window]}")
    shown = re.search(r"mean (\S+)\n", tip.inner_text())
    assert shown is not None
    assert float(shown[1]) == pytest.approx(layer.unit_means[window, unit], rel=1e-6)

    # A click chooses the batch, and the keys go on from there; what they reach is said.
    canvas.click(position={"x": x, "y": y})
    wait_until(lambda: f"p.batchview.batch={layer.steps[window]}" in watched.page.url, "the batch in the address")
    canvas.press("ArrowDown")
    canvas.press("ArrowLeft")
    said = heatmap.locator("[aria-live]")
    expect(said).to_contain_text(f"unit {unit + 1} · batch {layer.steps[window - 1]}")
    canvas.press("Enter")
    wait_until(lambda: f"p.batchview.batch={layer.steps[window - 1]}" in watched.page.url, "the other batch")

    # By share of zeros: dead units stand on top.
    plugin.get_by_test_id("unit-order").select_option("zeros")
    plugin.get_by_test_id("unit-zero_fraction").click()
    canvas.press("Control+Home")
    dead = np.flatnonzero((layer.unit_zeros == 1).all(axis=0))
    assert len(dead)
    expect(said).to_contain_text(f"unit {dead[0]} · batch 0. zeros 100 %")

    plugin.get_by_test_id("dead-last").fill("3")
    plugin.get_by_test_id("dead-last").press("Enter")
    found = layer.dead_units(3)
    expect(plugin.get_by_test_id("dead-list")).to_contain_text(f"{len(found)} dead of 64")
    listed = plugin.get_by_test_id("dead-list").inner_text().partition(": ")[2]
    assert [int(number) for number in listed.split(" · ")] == found

    with watched.page.expect_download() as download:
        plugin.get_by_test_id("csv-units").click()
    table = list(csv.reader(io.StringIO(download.value.path().read_text("utf-8-sig"))))
    assert table[0][6:] == [f"zero_fraction at {step}" for step in layer.steps]
    found_zeros = np.array([[float(cell) for cell in row[6:]] for row in table[1:]])
    np.testing.assert_allclose(found_zeros.T, layer.unit_zeros, rtol=1e-6)

    watched.page.reload()
    expect(plugin.get_by_test_id("unit-order")).to_have_value("zeros")
    expect(plugin.get_by_test_id("dead-last")).to_have_value("3")


def test_keys_lead_through_the_histograms_of_a_layer(watched: Watched, tensorboard: str, demo_logdir: Path) -> None:
    log = load(demo_logdir)[RUN].gradients("conv_1")
    open_plugin(watched, tensorboard, tab="layers", layer="conv_1")
    for hook in ("layer-heatmap", "gradient-heatmap", "layer-ridgeline", "gradient-ridgeline"):
        picture = watched.plugin.get_by_test_id(hook)
        expect_drawn(picture.locator("canvas"))
        picture.locator("canvas").focus()
        picture.locator("canvas").press("ArrowRight")
        expect(picture.locator("[aria-live]")).to_contain_text(f"batch {log.steps[-1]}.")
        expect(picture.locator(".tip")).to_contain_text("of the values lie between")

    heatmap = watched.plugin.get_by_test_id("gradient-heatmap")
    heatmap.locator("canvas").press("Home")
    expect(heatmap.locator("[aria-live]")).to_contain_text("batch 0.")
    heatmap.locator("canvas").press("Enter")
    wait_until(lambda: "p.batchview.batch=0" in watched.page.url, "the batch in the address")
    assert watched.plugin.get_by_test_id("tab-layers").get_attribute("aria-selected") == "true"


# -- what the models were given ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits recorded with their pictures, twice; texts; and samples whose ids are names of files in `files`."""
    directory = tmp_path_factory.mktemp("given")
    digits = load_digits()
    pictures, labels = digits.images[:40], digits.target[:40]
    names = [f"shelf/{number}.png" for number in range(40)]
    (directory / "files" / "shelf").mkdir(parents=True)
    for name, picture in zip(names, pictures, strict=True):
        image = Image.fromarray((picture * 15.9).astype(np.uint8))
        image.resize((400, 400), Image.Resampling.NEAREST).save(directory / "files" / name)
    texts = [HOSTILE_NAMES[number % 6] + str(number) for number in range(40)]
    rng = np.random.default_rng(3)
    for run in ("digits", "again", "files", "texts"):
        with BatchWriter(directory / "logs" / run, task="multiclass") as writer:
            for epoch in range(3):
                order = rng.permutation(40)
                scores = np.eye(10)[labels[order]] * 0.4 + rng.dirichlet(np.ones(10), 40) * 0.6
                inputs = None if run == "files" else pictures[order] if run != "texts" else [texts[i] for i in order]
                writer.add_batch(
                    epoch=epoch,
                    predictions=scores,
                    targets=labels[order],
                    loss=0.5,
                    sample_ids=np.array(names, object)[order],
                    inputs=inputs,
                )
    return directory


@pytest.fixture
def given_tensorboard(start: Callable[..., str], given: Path) -> str:
    return start(given / "logs", "--batchview_images_dir", str(given / "files"))


def read_pixels(image: Locator) -> np.ndarray:
    """Return the grey values of a picture as the browser has decoded it."""
    wait_until(lambda: image.evaluate("image => image.complete && image.naturalWidth > 0"), "a picture")
    size, values = image.evaluate(
        """image => {
            const canvas = document.createElement("canvas");
            [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
            const context = canvas.getContext("2d");
            context.drawImage(image, 0, 0);
            const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
            return [[canvas.height, canvas.width], [...data].filter((_, place) => place % 4 === 0)];
        }"""
    )
    return np.array(values).reshape(size)


def expect_pictures(table: Locator, rows: Sequence[int], side: int) -> None:
    """Expect in rows of a table the digits that their ids name, `side` pixels wide."""
    digits = load_digits().images
    for number in rows:
        image = table.locator(f"tr[aria-rowindex='{number + 2}'] bv-input img")
        expect(image).to_have_attribute("alt", re.compile(r"^Input of sample shelf/\d+\.png$"))
        seen = read_pixels(image)
        name = re.search(r"\d+", image.get_attribute("alt") or "")
        assert name is not None
        assert seen.shape == (side, side)
        middles = seen[side // 16 :: side // 8, side // 16 :: side // 8]
        assert np.corrcoef(middles.ravel(), digits[int(name.group())].ravel())[0, 1] > 0.98


def test_pictures_of_samples_are_those_the_model_was_given(watched: Watched, given_tensorboard: str, axe: str) -> None:
    plugin = watched.plugin
    # Recorded in the first epoch, and shown in each.
    open_plugin(watched, given_tensorboard, run="digits", tab="samples")
    table = plugin.get_by_test_id("samples-table")
    expect_pictures(table, range(4), 8)
    cell = table.locator("tr[aria-rowindex='2'] td:has(bv-input)")
    for part in (cell, cell.locator("bv-input")):  # nothing of a picture is cut off
        assert part.evaluate("part => part.scrollWidth <= part.clientWidth")
    table.locator(".scroll").evaluate("scroller => scroller.scrollTo(0, scroller.scrollHeight)")
    expect_pictures(table, range(116, 120), 8)
    assert table.locator("tr[aria-rowindex]").count() < 40, "only what is in view is there"
    table.locator("tr[aria-rowindex='120']").click()
    large = plugin.get_by_test_id("sample").locator("bv-input img")
    assert read_pixels(large).shape == (8, 8)
    assert (large.bounding_box() or {})["height"] > 100
    assert large.evaluate("image => getComputedStyle(image).imageRendering") == "pixelated"
    assert find_barriers(watched, axe) == []

    open_tab(watched, "batches")
    expect_pictures(plugin.get_by_test_id("batch-samples"), range(3), 8)

    # Files, by the ids that name them.
    open_plugin(watched, given_tensorboard, run="files", tab="samples")
    expect(table.locator("img[src*='run=files']").first).to_be_visible()
    expect_pictures(table, range(4), 256)

    # Two runs.
    open_plugin(watched, given_tensorboard, run="digits", runB="again", tab="samples")
    expect_pictures(plugin.get_by_test_id("joined-table"), range(3), 8)


def test_texts_of_samples_are_text(watched: Watched, given_tensorboard: str) -> None:
    open_plugin(watched, given_tensorboard, run="texts", tab="samples", map=0)
    plugin = watched.plugin
    table = plugin.get_by_test_id("samples-table")
    texts = table.locator("bv-input span")

    expect(texts.nth(8)).to_be_visible()
    shown = texts.evaluate_all("spans => spans.map((span) => span.textContent)")
    table.locator("tr[aria-rowindex='4']").click()
    expect(plugin.get_by_test_id("sample").locator("bv-input span")).to_have_text(re.compile("."))

    recorded = {HOSTILE_NAMES[number % 6] + str(number) for number in range(40)}
    assert {text[:900] for text in shown} <= {text[:900] for text in recorded}
    assert any(text.startswith("<img") for text in shown)
    assert (table.locator("tr[aria-rowindex='4']").bounding_box() or {})["height"] == 28
    assert watched.frame.locator("img, script[src=x]").count() == 0
    assert watched.page.evaluate("window.hacked === undefined")
    assert watched.frame.evaluate("document.documentElement.scrollWidth <= innerWidth")
