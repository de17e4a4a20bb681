"""The TensorBoard plugin: the routes of docs/http-api.md, and the host.

TensorBoard makes one through `loader` and calls its routes from many threads.
Each route parses its parameters, asks an `…_impl` for plain Python, and
responds. Calls `sources` for the log that a request is about, `answers`
for what is said of it, `http` for parameters and responses, `kept` for
answers that are asked for again. Files are read
with `os.pread`, never mapped: a file truncated under a map would end TensorBoard.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Collection, Hashable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tensorboard import errors
from tensorboard.plugins import base_plugin
from werkzeug import wrappers

from tb_batchview import answers, checks, downloads, join_answers, layer_answers, lookup, metadata, score_answers
from tb_batchview.address import hide_secrets, is_remote, local_path
from tb_batchview.answers import Answer, Chosen
from tb_batchview.errors import ArgumentError, BatchViewError, NotFoundError
from tb_batchview.export.selection import Selection
from tb_batchview.http import (
    Body,
    MethodNotAllowedError,
    Parameters,
    Picture,
    missing,
    pack,
    respond,
    respond_file,
    takes_gzip,
    wrong,
)
from tb_batchview.input_answers import Inputs
from tb_batchview.kept import Kept
from tb_batchview.layers import UNIT_FIGURES
from tb_batchview.log import has_runs, open_root
from tb_batchview.mirror import Mirror
from tb_batchview.pictures import FLAG
from tb_batchview.records import PHASES
from tb_batchview.run import Run
from tb_batchview.sources import Source, Sources
from tb_batchview.summaries import SummaryLog
from tb_batchview.turns import Turns
from tb_batchview.version import __version__
from tb_batchview.views import PhaseView

REFRESH_SECONDS = 1.0  # at most so often are the files looked at
MAX_POINTS = 5_000  # buckets of a timeline
MAX_WINDOWS = 500  # of a layer and of a trend
MAX_MAPPED = 20_000  # samples in a data map

# Requests that are worked on at once: more threads than processors take turns a few milliseconds
# each, and all are late. One that takes long does not hold up the others for longer than MOST_WAIT.
AT_ONCE = max(2, os.cpu_count() or 2)
MOST_WAIT = 0.25  # seconds

# Finished answers that are kept for whoever asks for the same.
KEPT_BYTES = 32 << 20
_KEY_BYTES = 1024  # of what an answer is kept by, beside its parameters

_RANGE = ("run", "phase", "output", "start", "stop")
_LAYER = ("run", "phase", "layer", "start", "stop")
_PAGE = ("sort", "descending", "offset", "limit")
_FILTER = ("outcome", "target", "predicted")
_RANGES = ("confidence", "loss", "mean_target_score", "variability")
_BY_SAMPLE = ("id", "id_part", "each", "learning", *(f"{name}_{end}" for name in _RANGES for end in ("min", "max")))
_AGAINST = tuple(f"against_{name}" for name in _RANGE)  # run B, to compare with
_LAYER_AGAINST = tuple(f"against_{name}" for name in _LAYER)

_STATIC = Path(__file__).parent / "static"
# A machine's own table of types may be wrong, and browsers refuse modules of a wrong one.
_CONTENT_TYPES = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".map": "application/json",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    ".wasm": "application/wasm",
}
_NO_BUNDLE = b"""\
export function render() {
  const note = document.createElement("p");
  note.textContent = "The pages of Batch View are not built in this checkout. Run: make frontend";
  document.body.append(note);
}
"""


class Counted(NamedTuple):
    """An answer that is made of counts, and kept.

    Attributes:
        state: What it depends on, beside the parameters; the same answer comes
            of the same state.
        make: Makes it.
    """

    state: Hashable
    make: Callable[[], Answer | bytes]

    @classmethod
    def of(cls, make: Callable[[], Answer | bytes], *chosen: Chosen | None) -> Counted:
        """Return what is counted of one or two ranges."""
        return cls(tuple(None if item is None else item.state for item in chosen), make)


class BatchViewPlugin(base_plugin.TBPlugin):
    """Serves what is recorded below TensorBoard's logdir."""

    plugin_name = metadata.PLUGIN_NAME

    def __init__(
        self,
        context: base_plugin.TBContext,
        refresh_seconds: float = REFRESH_SECONDS,
        patience: float | None = None,
    ) -> None:
        """Prepare; no file is read yet.

        Args:
            context: TensorBoard's.
            refresh_seconds: Least time between two looks at the files.
            patience: How long a request waits for what is new in them; None:
                as `refresher` says.
        """
        self._logdir, roots = find_roots(context)
        # A local one opens at once, a remote one is never waited for.
        self._roots = {prefix: open_root(root, background=True) for prefix, root in roots.items()}
        self._inputs = Inputs(str(getattr(context.flags, FLAG.removeprefix("--"), "") or ""))
        self._sources = Sources(self._roots, context.data_provider, refresh_seconds, patience)
        self._refresh_seconds = refresh_seconds
        self._turns = Turns(AT_ONCE, MOST_WAIT)
        self._kept = Kept(KEPT_BYTES)
        self._active = False
        self._looked: float | None = None
        for root in self._roots.values():
            if isinstance(root, Mirror):
                # When the page asks for the first time whether there is anything, it is known.
                root.ask(copy=False)

    def get_plugin_apps(self) -> dict[str, Callable[..., Any]]:
        """Return the routes."""
        _route, _counted = self._route, self._counted_route
        return {
            "/runs": _route(self.runs_impl, ("run",)),
            "/batches": _route(self.batches_impl, (*_RANGE, *_PAGE, *_AGAINST, "points", "find")),
            "/batch": _route(self.batch_impl, ("run", "phase", "output", "step", *_FILTER, *_PAGE)),
            "/sample": _route(self.sample_impl, ("run", "phase", "output", "step", "sample")),
            "/thumbnail": _route(self.thumbnail_impl, ("run", "phase", "output", "step", "sample")),
            "/samples": _route(self.samples_impl, (*_RANGE, *_FILTER, *_BY_SAMPLE, *_PAGE)),
            "/joined": _route(self.joined_impl, (*_RANGE, *_AGAINST, *_PAGE, "joint", "target", "predicted")),
            "/data_map": _route(self.data_map_impl, (*_RANGE, "limit")),
            "/classes": _counted(self.classes_impl, (*_RANGE, *_PAGE, *_AGAINST, "search")),
            "/confusion": _counted(self.confusion_impl, (*_RANGE, *_AGAINST, "limit", "order")),
            "/class_trend": _counted(self.class_trend_impl, (*_RANGE, "points", "limit")),
            "/calibration": _route(self.calibration_impl, _RANGE),
            "/thresholds": _route(self.thresholds_impl, _RANGE),
            "/residuals": _route(self.residuals_impl, (*_RANGE, "points", "value")),
            "/label_errors": _counted(self.label_errors_impl, (*_RANGE, "limit")),
            "/layers": _route(self.layers_impl, ("run", "phase", "start", "stop")),
            "/layer": _route(self.layer_impl, (*_LAYER, "points", "axis", *_LAYER_AGAINST)),
            "/units": _route(self.units_impl, (*_LAYER, "points", "limit", "figure")),
            "/dead_units": _route(self.dead_units_impl, (*_LAYER, "last")),
            "/gradients": _route(self.gradients_impl, ("run", "phase", "start", "stop", "points")),
            "/gradient": _route(self.gradient_impl, (*_LAYER, "points", "axis", *_LAYER_AGAINST)),
            "/export": self._serve(lambda parameters, _: self.export_impl(parameters), (*_RANGE, "table", "scores")),
            "/doctor": _route(self.doctor_impl, ("run",)),
            "/static/*": _static_route,
        }

    def is_active(self) -> bool:
        """Tell whether any run is recorded; true for ever once it was.

        Where a data provider is asked, TensorBoard has asked it itself, in
        the name of the request, whether it has anything of ours.
        """
        now = time.monotonic()
        if self._sources.foreign:
            self._active = self._active or any(source.log for source in self._sources)
        elif not self._active and (self._looked is None or now - self._looked >= self._refresh_seconds):
            self._looked = now
            self._active = any(map(_has_runs, self._roots.values()))
        return self._active

    def frontend_metadata(self) -> base_plugin.FrontendMetadata:
        """Return the tab's name and module."""
        return base_plugin.FrontendMetadata(es_module_path="/static/index.js", tab_name="Batch View")

    def runs_impl(self, parameters: Parameters) -> Answer:
        """Return all runs, or one of them with its class names."""
        name = parameters.optional_text("run")
        source = self._source(parameters)
        if source.refresher.failure:
            raise RefreshError(
                f"The log directory could not be looked at: {source.refresher.failure}. It is tried again; "
                f"this went wrong {source.refresher.failures} times so far."
            )
        log = source.log.snapshot()
        failures = [mirror.failure for mirror in source.log.mirrors if mirror.failure]
        if failures and not log:
            raise RefreshError(f"{failures[0]} It is tried again.")
        total = sum(run.view.health.bytes for run in log.values())
        unread = sum(run.view.unread for run in log.values())
        runs = log.values() if name is None else [self._find(parameters, name)]
        provided = source.provided
        return {
            "format_version": metadata.FORMAT_VERSION,
            "plugin_version": __version__,
            "logdir": self._logdir,
            "data_provider": {"location": provided.location, "failure": provided.failure} if provided else None,
            "indexing": {"read_bytes": total - unread, "bytes": total} if unread or not source.looked else None,
            "runs": [self._describe(run, with_names=name is not None) for run in runs],
        }

    def doctor_impl(self, parameters: Parameters) -> Answer:
        """Return what is wrong with the installation and the runs."""
        name = parameters.optional_text("run")
        source = self._source(parameters)
        provided = source.provided
        of_provider = (
            [] if provided is None else [*checks.check_provider(provided.location, provided.failure, provided.further)]
        )
        if name is None:
            of_log = checks.check_log(source.log.snapshot(), self._logdir if provided is None else None)
            of_mirrors = checks.check_mirrors(source.log.mirrors)
            found = [*checks.check_installation(), *self._inputs.check(), *of_provider, *of_mirrors, *of_log]
        else:
            found = [*of_provider, *checks.check_run(self._find(parameters, name))]
        return {"findings": [dataclasses.asdict(finding) for finding in found]}

    def batches_impl(self, parameters: Parameters) -> Answer | bytes:
        """Return the timeline of a range, or a page of its table."""
        chosen = self._choose(parameters)
        if "points" not in parameters:
            return answers.batch_rows(chosen, parameters, self._choose_against(parameters))
        for name in (*_PAGE, *_AGAINST, "find"):
            if name in parameters:
                raise wrong(f"{name} must be left out of a timeline. Received: both points and {name}.")
        return answers.timeline(chosen, parameters.whole("points", low=1, high=MAX_POINTS))

    def batch_impl(self, parameters: Parameters) -> Answer:
        """Return one batch and a page of its samples."""
        return answers.one_batch(self._choose(parameters), parameters)

    def sample_impl(self, parameters: Parameters) -> Answer:
        """Return one sample with all its scores."""
        chosen = self._choose(parameters)
        return answers.one_sample(chosen, parameters.whole("step"), parameters.whole("sample"))

    def thumbnail_impl(self, parameters: Parameters) -> Picture | Answer:
        """Return the picture or the text that the model was given."""
        chosen = self._choose(parameters)
        return self._inputs.find(chosen, parameters.whole("step"), parameters.whole("sample"))

    def samples_impl(self, parameters: Parameters) -> Answer:
        """Return a page of the samples of a range."""
        return answers.sample_rows(self._choose(parameters), parameters)

    def joined_impl(self, parameters: Parameters) -> Answer:
        """Return the samples that two runs both saw."""
        return join_answers.joined(self._choose(parameters), self._choose(parameters, "against_"), parameters)

    def data_map_impl(self, parameters: Parameters) -> bytes:
        """Return how the model came to know each sample of a range."""
        limit = parameters.whole("limit", default=5_000, low=1, high=MAX_MAPPED)
        return answers.data_map(self._choose(parameters), limit)

    def classes_impl(self, parameters: Parameters) -> Counted:
        """Return figures per class."""
        chosen, against = self._choose(parameters), self._choose_against(parameters)
        return Counted.of(lambda: answers.class_rows(chosen, parameters, against), chosen, against)

    def confusion_impl(self, parameters: Parameters) -> Counted:
        """Return the confusion matrix of a range."""
        limit = parameters.whole("limit", default=answers.MAX_CLASSES, low=1, high=answers.MAX_CLASSES)
        clustered = parameters.choice("order", ("class", "clustered"), "class") == "clustered"
        chosen, against = self._choose(parameters), self._choose_against(parameters)
        return Counted.of(
            lambda: answers.confusion(chosen, limit, clustered=clustered, against=against), chosen, against
        )

    def class_trend_impl(self, parameters: Parameters) -> Counted:
        """Return counts per class over windows of a range."""
        points = parameters.whole("points", default=100, low=1, high=MAX_WINDOWS)
        limit = parameters.whole("limit", default=100, low=1, high=answers.MAX_CLASSES)
        chosen = self._choose(parameters)
        return Counted.of(lambda: answers.class_trend(chosen, points, limit), chosen)

    def calibration_impl(self, parameters: Parameters) -> Answer:
        """Return the reliability diagram of the range."""
        return score_answers.reliability(self._choose(parameters))

    def thresholds_impl(self, parameters: Parameters) -> bytes:
        """Return what a binary output predicts at each threshold."""
        return score_answers.thresholds(self._choose(parameters))

    def residuals_impl(self, parameters: Parameters) -> bytes:
        """Return targets and predictions of some samples of a regression."""
        points = parameters.whole("points", default=MAX_POINTS, low=1, high=4 * MAX_POINTS)
        return score_answers.residuals(self._choose(parameters), points, parameters.whole("value", default=0))

    def label_errors_impl(self, parameters: Parameters) -> Counted:
        """Return how often two labels are wrong of the same sample."""
        limit = parameters.whole("limit", default=answers.MAX_CLASSES, low=1, high=answers.MAX_CLASSES)
        chosen = self._choose(parameters)
        return Counted.of(lambda: score_answers.label_errors(chosen, limit), chosen)

    def layers_impl(self, parameters: Parameters) -> Answer:
        """Return the layers and their last figures in the range."""
        run, phase, start, stop = self._choose_phase(parameters)
        rows = [layer_answers.describe_layer(run.layer(name, phase.name), start, stop) for name in phase.layers]
        return {"layers": [row for row in rows if row is not None]}

    def layer_impl(self, parameters: Parameters) -> bytes:
        """Return figures and histograms of one layer over the range."""
        run, phase, start, stop = self._choose_phase(parameters)
        points, axis = _window_choice(parameters)
        name = parameters.text("layer")
        there = parameters.optional_text("against_layer") or name
        cover = self._axis_against(parameters, lambda other, part: other.layer(there, part.name))
        return layer_answers.layer_windows(run.layer(name, phase.name), start, stop, points, axis, cover)

    def units_impl(self, parameters: Parameters) -> bytes:
        """Return a figure of each unit of one layer over the range."""
        run, phase, start, stop = self._choose_phase(parameters)
        layer = run.layer(parameters.text("layer"), phase.name)
        points = parameters.whole("points", default=200, low=1, high=MAX_WINDOWS)
        limit = parameters.whole("limit", default=500, low=1, high=layer_answers.MAX_UNITS)
        figure = parameters.choice("figure", tuple(UNIT_FIGURES), "mean")
        return layer_answers.unit_windows(layer, start, stop, points, limit, figure)

    def dead_units_impl(self, parameters: Parameters) -> Answer:
        """Return the units that were of no use in the last batches."""
        run, phase, start, stop = self._choose_phase(parameters)
        last = parameters.whole("last", default=20, low=1)
        return layer_answers.dead_units(run.layer(parameters.text("layer"), phase.name), start, stop, last)

    def gradients_impl(self, parameters: Parameters) -> bytes:
        """Return the norms of the gradients of all layers over the range."""
        _, phase, start, stop = self._choose_phase(parameters)
        points = parameters.whole("points", default=200, low=1, high=MAX_WINDOWS)
        return layer_answers.gradient_norms(phase, start, stop, points)

    def gradient_impl(self, parameters: Parameters) -> bytes:
        """Return figures and histograms of the gradient of one layer."""
        run, phase, start, stop = self._choose_phase(parameters)
        points, axis = _window_choice(parameters)
        name = parameters.text("layer")
        there = parameters.optional_text("against_layer") or name
        cover = self._axis_against(parameters, lambda other, part: other.gradients(there, part.name))
        return layer_answers.gradient_windows(run.gradients(name, phase.name), start, stop, points, axis, cover)

    def _axis_against(
        self, parameters: Parameters, summaries: Callable[[Run, PhaseView], SummaryLog]
    ) -> tuple[float, float] | None:
        """Return the ends of the axis of the same in run B, None without one."""
        if not _compares(parameters):
            return None
        run, phase, start, stop = self._choose_phase(parameters, "against_")
        return layer_answers.histogram_axis(summaries(run, phase), start, stop, *_window_choice(parameters))

    def export_impl(self, parameters: Parameters) -> wrappers.Response:
        """Return a table of the range as CSV, to be saved; never gzipped."""
        table = parameters.choice("table", downloads.TABLES, "samples")
        scores = parameters.flag("scores", default=True)
        run, phase, start, stop = self._choose_phase(parameters)
        selection = Selection(run, phase.name, parameters.optional_text("output"), start, stop)
        return downloads.respond_csv(selection, table, scores=scores)

    def _describe(self, run: Run, *, with_names: bool) -> Answer:
        answer = answers.describe_run(run.name, run.view, with_names=with_names)
        for phase in answer["phases"]:
            phase["inputs"] = self._inputs.find_kind(run.view, run.view.phases[phase["name"]])
        return answer

    def _source(self, parameters: Parameters) -> Source:
        return self._sources.of(parameters.experiment)

    def _find(self, parameters: Parameters, name: str) -> Run:
        """Return a run as it is now."""
        source = self._source(parameters)
        try:
            return source.log[name].snapshot()
        except NotFoundError:
            if source.looked:
                raise
            raise NotFoundError(
                f"run must be one of those recorded. Received: run={name!r}. "
                "The log directory is still being looked through: ask again in a moment."
            ) from None

    def _route(
        self, impl: Callable[[Parameters], Answer | bytes | Picture], known: Collection[str]
    ) -> Callable[..., Any]:
        """Return a route whose answers are made anew."""

        def answer(parameters: Parameters, gzipped: bool) -> Body:
            with self._turns.turn():
                return pack(impl(parameters), gzipped=gzipped)

        return self._serve(answer, known)

    def _counted_route(self, impl: Callable[[Parameters], Counted], known: Collection[str]) -> Callable[..., Any]:
        """Return a route whose answers are kept."""

        def answer(parameters: Parameters, gzipped: bool) -> Body:
            counted = impl(parameters)
            key = impl.__name__, parameters.given, counted.state, gzipped
            body: Body | None = self._kept.get(key)
            if body is None:
                # Of several who ask for the same at once, one makes it.
                with self._kept.making(key):
                    body = self._kept.get(key)
                    if body is None:
                        with self._turns.turn():
                            body = pack(counted.make(), gzipped=gzipped)
                        size = sum(len(name) + len(text) for name, text in parameters.given)
                        self._kept.put(key, body, len(body.content) + size + _KEY_BYTES)
            return body

        return self._serve(answer, known)

    def _serve(
        self, answer: Callable[[Parameters, bool], Body | wrappers.Response], known: Collection[str]
    ) -> Callable[..., Any]:
        """Return a route: parse, ask, respond."""

        @wrappers.Request.application
        def route(request: wrappers.Request) -> wrappers.Response:
            _check_method(request)
            parameters = Parameters(request.args, known, self._sources.admit(request.environ))
            try:
                self._await_news(parameters)
                body = answer(parameters, takes_gzip(request))
                return respond(request, body) if isinstance(body, Body) else body
            except ArgumentError as error:
                raise errors.InvalidArgumentError(str(error)) from error
            except (BatchViewError, errors.NotFoundError) as error:
                raise missing(f"{str(error).removeprefix('Not found: ')}{self._excuse(parameters)}") from error

        return route

    def _await_news(self, parameters: Parameters) -> None:
        """Have the files of its runs looked at, before it is a request's turn.

        It may wait for them, and would keep others from working meanwhile.
        """
        refresher = self._source(parameters).refresher
        names = [name for name in ("run", "against_run") if name in parameters]
        for name in names:
            refresher.ask(parameters.text(name))
        if not names:
            refresher.ask()

    def _excuse(self, parameters: Parameters) -> str:
        """Say that what is not there may yet be found, where it is so."""
        run = self._source(parameters).log.snapshot().get(parameters.optional_text("run") or "")
        return " The run is still being read: ask again in a moment." if run is not None and run.view.unread else ""

    def _choose_phase(self, parameters: Parameters, prefix: str = "") -> tuple[Run, PhaseView, int | None, int | None]:
        name, phase = parameters.text(f"{prefix}run"), parameters.text(f"{prefix}phase")
        if phase not in PHASES:
            raise wrong(f"{prefix}phase must be one of {', '.join(PHASES)}. Received: {prefix}phase={phase[:80]!r}.")
        run = self._find(parameters, name)
        start, stop = (parameters.optional_whole(f"{prefix}{end}") for end in ("start", "stop"))
        if start is not None and stop is not None and start > stop:
            raise wrong(
                f"{prefix}start must not be greater than {prefix}stop. "
                f"Received: {prefix}start={start}, {prefix}stop={stop}."
            )
        return run, lookup.find_phase(run.view, phase, name), start, stop

    def _choose(self, parameters: Parameters, prefix: str = "") -> Chosen:
        run, phase, start, stop = self._choose_phase(parameters, prefix)
        output, spec = lookup.find_output(run.view, parameters.optional_text(f"{prefix}output"), run.name)
        return Chosen(run, phase, output, spec, start, stop)

    def _choose_against(self, parameters: Parameters) -> Chosen | None:
        """Return run B, None where nothing is to be compared."""
        return self._choose(parameters, "against_") if _compares(parameters) else None


def _compares(parameters: Parameters) -> bool:
    """Tell whether there is a run B; half of one is refused by its parts."""
    return any(name in parameters for name in {*_AGAINST, *_LAYER_AGAINST})


class RefreshError(errors.PublicError):
    """The files cannot be looked at, and what was known may be outdated."""

    http_code = 500


def _has_runs(root: Path | Mirror) -> bool:
    """Tell whether anything is recorded below a directory; cheap."""
    if isinstance(root, Path):
        return has_runs(root)
    root.ask(copy=False)
    return root.found


def find_roots(context: base_plugin.TBContext) -> tuple[str, dict[str, Path | str]]:
    """Return the logdir as it may be shown, and the directories to search.

    Remote ones are addresses. With `--logdir_spec a:X,b:Y` the names of runs begin with a/ and b/.
    """
    flags = context.flags
    spec = str(getattr(flags, "logdir_spec", "") or "")
    if context.logdir and context.logdir != spec:
        return hide_secrets(context.logdir), {"": _root(context.logdir)}
    roots: dict[str, Path | str] = {}
    for part in spec.split(","):
        name, colon, path = part.partition(":")
        # As TensorBoard reads it: a name has no slash, so C:/logs and s3://logs are paths.
        if not colon or "/" in name or path.startswith(("//", "\\")):
            name, path = "", part
        if path:
            roots[name] = _root(path)
    return hide_secrets(spec), roots


def _root(path: str) -> Path | str:
    return path if is_remote(path) else local_path(path)


def _window_choice(parameters: Parameters) -> tuple[int, str]:
    """Return how many windows of histograms to make, and on which axis."""
    points = parameters.whole("points", default=200, low=1, high=MAX_WINDOWS)
    return points, parameters.choice("axis", layer_answers.LAYER_AXES, "all")


@wrappers.Request.application
def _static_route(request: wrappers.Request) -> wrappers.Response:
    _check_method(request)
    # The name is looked up among the files that are there; it is no path.
    name = request.path.rpartition("/static/")[2]
    files = _static_files()
    if name in files:
        return respond_file(request, files[name].read_bytes(), _content_type(name))
    if name == "index.js":
        return respond_file(request, _NO_BUNDLE, "text/javascript")
    raise missing(f"The file must be one of the frontend's. Received: {name[:80]!r}.")


def _static_files() -> Mapping[str, Path]:
    """Return the files of the frontend by name."""
    return {path.name: path for path in _STATIC.glob("*") if path.is_file()}


def _content_type(name: str) -> str:
    suffix = Path(name).suffix.lower()
    return _CONTENT_TYPES.get(suffix, "application/octet-stream")


def _check_method(request: wrappers.Request) -> None:
    if request.method not in ("GET", "HEAD"):
        raise MethodNotAllowedError(request.method)
