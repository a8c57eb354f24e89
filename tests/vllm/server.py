"""A server of vLLM's on loopback, with a tiny model, as a user starts it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_LOGGING_LEVEL": "INFO",  # whatever an earlier test asked for: what the plug-in says is looked at
    "VLLM_NO_USAGE_STATS": "1",
}
UP_S = 300
"""On a busy machine; alone it takes fifteen seconds."""


class Server:
    """A server that runs; `said` is what it printed, once it has stopped."""

    def __init__(self, port, process, output):
        self.url, self.process, self.output = f"http://127.0.0.1:{port}", process, output

    @property
    def said(self):
        return self.output.read_text()

    @property
    def ours(self):
        """What the plug-in printed, without vLLM's prefixes."""
        lines = [line for line in self.said.splitlines() if "lapsbench: " in line]
        return [line.partition("lapsbench: ")[2] for line in lines]

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return answer.read().decode()

    def complete(self, **body):
        body = {"model": "m", "prompt": "abc", "temperature": 0, "ignore_eos": True, **body}
        request = urllib.request.Request(
            self.url + "/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)


def command(model, port, options, *more):
    return [
        *(
            sys.executable,
            "-m",
            "vllm.entrypoints.openai.api_server",
            "--model",
            str(model),
            "--served-model-name",
            "m",
        ),
        *("--dtype", "float32", "--max-model-len", "256", "--max-num-seqs", "4", "--block-size", "32"),
        *("--num-gpu-blocks-override", "20", "--enforce-eager", "--host", "127.0.0.1", "--port", str(port)),
        *("--scheduler-cls", "lapsbench.vllm.Scheduler", "--additional-config", json.dumps({"lapsbench": options})),
        *more,
    ]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(folder, model, options, *more, **environment):
    port, output = free_port(), folder / "server.log"
    around = {key: value for key, value in os.environ.items() if key != "VLLM_ENABLE_V1_MULTIPROCESSING"}
    around |= ENVIRONMENT | environment
    with output.open("w") as file:
        process = subprocess.Popen(
            command(model, port, options, *more), stdout=file, stderr=subprocess.STDOUT, env=around, cwd=folder
        )
    return Server(port, process, output)


@contextmanager
def serving(folder, model, options, *more):
    """Serve while the block runs; then stop as an operator does."""
    metrics = folder / "metrics"
    metrics.mkdir()
    server = start(folder, model, options, *more, PROMETHEUS_MULTIPROC_DIR=str(metrics))
    try:
        until = time.monotonic() + UP_S
        while True:
            assert server.process.poll() is None, server.said
            assert time.monotonic() < until, server.said
            try:
                server.get("/health")
                break
            except OSError:
                time.sleep(0.5)
        yield server
    finally:
        server.process.send_signal(signal.SIGTERM)
        try:
            server.process.wait(60)
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.process.wait()
