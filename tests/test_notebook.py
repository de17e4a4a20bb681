"""The tab in a notebook: `%tensorboard` in a real kernel, its frame in a page, and proxies before it.

What the notebook puts out is shown in a page of another server, in a frame of its own as Colab and VS Code do: the tab
is then a frame in a frame in a frame.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip("ipykernel")
nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")

from browser.host import ROOT, Watched, run_chromium, run_tensorboard, wait_until, watch  # noqa: E402
from playwright.sync_api import Browser, Frame, expect  # noqa: E402

from tb_batchview import BatchWriter  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.slow]

RUNS = [f"seed=1 augmentation=flips-and-crops learning_rate=0.{number:03} width={8 * number}" for number in range(50)]
PREFIX = re.compile(r"/user/ada/proxy/(\d+)")
# What stays with the connection, and what the server here says itself.
HOPS = {"connection", "transfer-encoding", "content-length", "date", "server"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the runs of a sweep in `logs`."""
    folder = tmp_path_factory.mktemp("notebook")
    for number, run in enumerate(RUNS):
        with BatchWriter(folder / "logs" / run) as writer:
            for step in range(2 + number):
                scores = [[0.9, 0.1], [0.3, 0.7], [0.6, 0.4]]
                writer.add_batch(
                    predictions=scores, targets=[0, 1, step % 2], loss=1 / (1 + step), wall_time=1e9 + number
                )
    return folder


@pytest.fixture(scope="module")
def outputs(folder: Path) -> Iterator[list[str]]:
    """Run a notebook, and return the HTML that its cells put out."""
    cells = [
        "%load_ext tensorboard",
        "%tensorboard --logdir logs --port 0",
        # As behind jupyter-server-proxy.
        "import os; os.environ['TENSORBOARD_PROXY_URL'] = '/user/ada/proxy/%PORT%/'",
        "%tensorboard --logdir logs --port 0",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    # TensorBoard's own, from here: `%tensorboard` takes PYTHONPATH out of what the command gets.
    binary = folder / "tensorboard"
    path = f"import sys; sys.path.insert(0, {str(ROOT)!r})"
    binary.write_text(f"#!{sys.executable}\n{path}\nfrom tensorboard.main import run_main\nsys.exit(run_main())\n")
    binary.chmod(0o755)
    environment = os.environ | {
        "TENSORBOARD_BINARY": str(binary),
        "TMPDIR": str(folder),  # where TensorBoard tells others of itself
        "IPYTHONDIR": str(folder / "ipython"),
    }
    client = nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3")
    # The kernel takes TensorBoard with it when it ends.
    with client.setup_kernel(cwd=str(folder), env=environment):
        for number, cell in enumerate(notebook.cells):
            client.execute_cell(cell, number)
        shown = [output.get("data", {}).get("text/html") for cell in notebook.cells for output in cell.outputs]
        yield [html for html in shown if html]


class Site(BaseHTTPRequestHandler):
    """A notebook server: pages of ours, and a proxy that takes the prefix off."""

    pages: ClassVar[dict[str, str]] = {}

    def do_POST(self) -> None:
        self.do_GET(self.rfile.read(int(self.headers["Content-Length"])))

    def do_GET(self, asked: bytes | None = None) -> None:
        port = PREFIX.match(self.path)
        if port is None:
            self._answer(200, {"Content-Type": "text/html"}, self.pages.get(self.path, "").encode())
            return
        connection = http.client.HTTPConnection("localhost", int(port[1]))
        with contextlib.closing(connection):
            connection.request(self.command, self.path[port.end() :], asked, dict(self.headers))
            response = connection.getresponse()
            headers = {name: value for name, value in response.getheaders() if name.lower() not in HOPS}
            self._answer(response.status, headers, response.read())

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the page was left meanwhile
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site(outputs: list[str]) -> Iterator[str]:
    """Serve the outputs, each in a frame of a page; the value is the address."""
    port = re.search(r"const port = (\d+);", outputs[0])
    assert port is not None, outputs
    # As the runtime of Colab does it, in an output frame of its own.
    outputs.append(
        f'<iframe src="/user/ada/proxy/{port[1]}/?tensorboardColab=true" width="100%" height="800"></iframe>'
    )
    for number, html in enumerate(outputs):
        Site.pages[f"/output{number}"] = f"<!doctype html><body>{html}</body>"
        frame = f'<iframe src="/output{number}" width="1400" height="850"></iframe>'
        Site.pages[f"/{number}"] = f"<!doctype html><body><p>In [{number}]:</p>{frame}</body>"
    with ThreadingHTTPServer(("localhost", 0), Site) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with run_chromium(chromium) as browser:
        yield browser


@pytest.fixture
def watched(browser: Browser) -> Iterator[Watched]:
    context = browser.new_context(viewport={"width": 1460, "height": 950})
    watched = watch(context)
    yield watched
    context.close()
    # TensorBoard asks for its own fonts at the root, whatever the prefix.
    ignored = re.compile(r"404: http://[^/]+/(font-roboto/|favicon)|console: Failed to load resource")
    assert [error for error in watched.errors if not ignored.match(error)] == []


def use(frame: Frame) -> None:
    """Choose a run of the sweep with the keyboard, and look at a batch of it."""
    expect(frame.get_by_test_id("badge")).to_contain_text("51 of 51 batches")  # the newest run
    search = frame.get_by_test_id("run-search")
    search.press_sequentially("0.007")
    expect(frame.get_by_test_id("runs-found")).to_have_text("1 of 50 runs")
    search.press("Enter")
    expect(frame.get_by_test_id("badge")).to_contain_text("9 of 9 batches")
    expect(frame.get_by_test_id("run")).to_have_value(RUNS[7])
    search.press("Escape")
    expect(frame.locator("#run option")).to_have_text(RUNS)
    frame.locator("[data-testid='batches-table'] tr[aria-rowindex='3']").click()
    expect(frame.get_by_test_id("batch-title")).to_contain_text("Batch 1")
    frame.get_by_test_id("tab-classes").click()
    expect(frame.get_by_test_id("confusion").locator("canvas").first).to_be_visible()


@pytest.mark.parametrize("place", [0, 1, 2], ids=["by its port", "behind a proxy", "as in Colab"])
def test_the_tab_works_in_the_output_of_a_notebook(place: int, site: str, watched: Watched) -> None:
    watched.page.goto(f"{site}/{place}")
    plugin = watched.page.frame_locator("iframe").frame_locator("iframe").frame_locator("iframe[src*='name=batchview']")
    expect(plugin.get_by_test_id("badge")).to_be_visible()
    frame = watched.frame
    depth, above = 0, frame.parent_frame
    while above is not None:
        depth, above = depth + 1, above.parent_frame

    assert depth == 3
    use(frame)
    tensorboard = frame.parent_frame
    assert tensorboard is not None
    # The view is in the address of TensorBoard's frame, where a reload of it finds it.
    wait_until(lambda: "p.batchview.run=" in tensorboard.url, "the address of the view")
    # Nothing was drawn for those who cannot see it: the tab knows how large its frame is.
    assert frame.evaluate("innerHeight") > 300


def test_the_tab_works_under_a_path_prefix(folder: Path, watched: Watched) -> None:
    with run_tensorboard(folder / "logs", "--path_prefix", "/user/ada/tb") as address:
        assert "/user/ada/tb" in address
        watched.page.goto(f"{address.rstrip('/')}/#batchview")
        expect(watched.plugin.get_by_test_id("badge")).to_be_visible()
        use(watched.frame)
        watched.page.goto("about:blank")  # or it would ask on when nobody answers any more
