"""Which log a request is about: that of files, or one a foreign provider has.

Made by `plugin`. Calls `log` and `refresher`, and `provider` where TensorBoard
has no directory of files.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tensorboard import plugin_util

from tb_batchview.log import Log
from tb_batchview.mirror import Mirror
from tb_batchview.refresher import Refresher

if TYPE_CHECKING:
    from tb_batchview.provider import ProviderFiles

# The address may name any experiment; of so many something is kept.
MAX_EXPERIMENTS = 4


class Source(NamedTuple):
    """Runs, and what keeps them fresh.

    Attributes:
        log: The runs.
        refresher: Nobody else refreshes them.
        provided: What makes their files of a data provider's answers; None
            where the files are those that were recorded.
    """

    log: Log
    refresher: Refresher
    provided: ProviderFiles | None = None

    @property
    def looked(self) -> bool:
        """Tell whether it is known which runs there are."""
        return self.refresher.looked and all(mirror.listed for mirror in self.log.mirrors)


class Sources:
    """The source of each request."""

    def __init__(
        self, roots: Mapping[str, Path | Mirror], provider: Any, seconds: float, patience: float | None
    ) -> None:
        """Prepare; nothing is looked at yet.

        Args:
            roots: Directories to search; where there are none, `provider` is
                asked.
            provider: TensorBoard's data provider, None if it has none.
            seconds: As for `Refresher`.
            patience: Likewise.
        """
        self._provider = provider if not roots else None
        self._options = seconds, patience
        self._lock = threading.Lock()
        self._sources: OrderedDict[str, Source] = OrderedDict()
        log = Log(roots)
        self._files = Source(log, Refresher(log, *self._options))

    @property
    def foreign(self) -> bool:
        """Tell whether a data provider is asked."""
        return self._provider is not None

    def admit(self, environ: dict[str, Any]) -> str:
        """Return the experiment of a request, which may see it.

        Raises:
            Exception: Whatever the data provider raises to whom it refuses.
        """
        if self._provider is None:
            return ""
        experiment: str = plugin_util.experiment_id(environ)
        context = plugin_util.context(environ)
        # What was read for one user is kept, and is not for every other one.
        if getattr(context.auth, "_providers", True):
            self._provider.list_runs(context, experiment_id=experiment)
        provided = self.of(experiment).provided
        if provided is not None:
            provided.context = context
        return experiment

    def of(self, experiment: str) -> Source:
        """Return the source of an experiment."""
        if self._provider is None:
            return self._files
        with self._lock:
            source = self._sources.get(experiment)
            if source is None:
                # What writes events is loaded where there is something to write.
                from tb_batchview.provider import ProviderFiles

                provided = ProviderFiles(self._provider, experiment)
                log = Log({}, find=provided.find)
                source = self._sources[experiment] = Source(log, Refresher(log, *self._options), provided)
                while len(self._sources) > MAX_EXPERIMENTS:
                    _, oldest = self._sources.popitem(last=False)
                    if oldest.provided is not None:
                        oldest.provided.close()
            self._sources.move_to_end(experiment)
            return source

    def __iter__(self) -> Iterator[Source]:
        """Yield those that there are so far."""
        with self._lock:
            return iter([*self._sources.values()] or [self._files])
