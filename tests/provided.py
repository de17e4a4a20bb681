"""Data providers for the tests: TensorBoard's own ones, over a directory of ours."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer, tag_types


def make_multiplexer(logdir: Path, keep: int) -> plugin_event_multiplexer.EventMultiplexer:
    """Return what the Python loader keeps of a directory: at most so many events of a tag, 0 for all."""
    multiplexer = plugin_event_multiplexer.EventMultiplexer(
        size_guidance={tag_types.TENSORS: keep}, tensor_size_guidance={"batchview": keep}
    )
    multiplexer.AddRunsFromDirectory(str(logdir))
    multiplexer.Reload()
    return multiplexer


def make_provider(logdir: Path, keep: int) -> Any:
    """Return TensorBoard's Python data provider."""
    return data_provider.MultiplexerDataProvider(make_multiplexer(logdir, keep), str(logdir))


@contextlib.contextmanager
def run_data_server(logdir: Path, folder: Path, keep: str) -> Iterator[str]:
    """Run TensorBoard's data server, which keeps "all" or so many events of a tag; the value is its address."""
    server_ingester = pytest.importorskip("tensorboard.data.server_ingester")
    try:
        binary = server_ingester.get_server_binary()
    except server_ingester.NoDataServerError:
        pytest.skip("TensorBoard's data server is not made for this system")
    port = folder / "port"
    command = [binary.path, f"--logdir={logdir}", "--reload=1", f"--samples-per-plugin=batchview={keep}"]
    with subprocess.Popen([*command, "--port=0", f"--port-file={port}"]) as server:
        try:
            deadline = time.monotonic() + 60
            while not (port.exists() and port.read_text().endswith("\n")):
                assert server.poll() is None
                assert time.monotonic() < deadline, "the data server did not start"
                time.sleep(0.02)
            yield f"localhost:{port.read_text().strip()}"
        finally:
            server.kill()


@contextlib.contextmanager
def connect(address: str) -> Iterator[Any]:
    """Return TensorBoard's data provider that talks to a data server, once it has read something."""
    import grpc
    from tensorboard.data import grpc_provider

    # As TensorBoard connects to one.
    with grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", 1 << 28)]) as channel:
        provider = grpc_provider.GrpcDataProvider(address, grpc_provider.make_stub(channel))
        deadline = time.monotonic() + 60
        while "batchview" not in provider.list_plugins(None, experiment_id=""):
            assert time.monotonic() < deadline, "the data server reads nothing"
            time.sleep(0.05)
        yield provider
