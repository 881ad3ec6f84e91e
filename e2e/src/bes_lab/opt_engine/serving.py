"""Starts `transformers serve` with continuous batching, ready when ``OptEngine`` has been entered."""

import http.client
import json
import re
from pathlib import Path
from types import TracebackType
from typing import Self

from bes_lab.errors import StartError
from bes_lab.local.children import Children

MODEL = "opt-random"
"""The name under which it serves: the folder's, as that server names what it was pointed at."""
BLOCK_TOKENS = 32
BLOCKS = 1024
KV_CACHE_TOKENS = BLOCK_TOKENS * BLOCKS
"""Its own default is most of the machine's memory, allocated at the first request."""
BATCH_TOKENS = 1024
"""Prompt and decode tokens of one iteration at most."""
WRITE_SECONDS = 120.0
START_SECONDS = 120.0
FIRST_ANSWER_SECONDS = 120.0
_ANNOUNCEMENT = re.compile(r"Uvicorn running on http://127\.0\.0\.1:(\d+)")


class OptEngine:
    """A context. ``environment`` is the folder of the virtual environment that holds transformers and torch.

    One thread of one core computes: more would only make its latency depend on what else the machine does.
    """

    def __init__(self, environment: Path, folder: Path) -> None:
        self._bin = environment.absolute() / "bin"
        self._folder = folder.absolute()
        self._children = Children()
        self.host = "127.0.0.1"
        self.port = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self.host}:{self.port}"

    def __enter__(self) -> Self:
        try:
            self._write()
            self._start()
        except BaseException:
            self._children.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._children.end()

    def _write(self) -> None:
        """Make the model, unless the folder has it from before."""
        model = self._folder / MODEL
        done = self._folder / "written"
        if done.exists():
            return
        model.mkdir(parents=True, exist_ok=True)
        with Children() as writing:
            module = "bes_lab.opt_engine.weights"
            child = writing.start("weights", self._command("python", "-m", module, str(model)), self._log("weights"))
            code = child.process.wait(WRITE_SECONDS)
            if code:
                raise StartError(child.ended() or "")
        done.touch()

    def _start(self) -> None:
        (self._folder / "hub").mkdir(exist_ok=True)  # without it that server's /v1/models is an error
        self._log("serve").unlink(missing_ok=True)
        place = ("--host", self.host, "--port", "0", "--device", "cpu", "--dtype", "float32")
        cache = ("--cb-num-blocks", str(BLOCKS), "--cb-block-size", str(BLOCK_TOKENS))
        options = (*place, "--continuous-batching", *cache, "--cb-max-batch-tokens", str(BATCH_TOKENS))
        self._children.start("serve", self._command("transformers", "serve", MODEL, *options), self._log("serve"))
        self._children.wait_until(self._listening, "transformers serve was listening", START_SECONDS)
        self._first_answer()

    def _command(self, program: str, *arguments: str) -> tuple[str, ...]:
        settings = ("HF_HUB_OFFLINE=1", f"HF_HUB_CACHE={self._folder / 'hub'}", "OMP_NUM_THREADS=1")
        return ("env", "-C", str(self._folder), *settings, str(self._bin / program), *arguments)

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def _listening(self) -> bool:
        found = _ANNOUNCEMENT.search(self._log("serve").read_text(encoding="utf-8", errors="replace"))
        if found is None:
            return False
        self.port = int(found[1])
        return True

    def _first_answer(self) -> None:
        """It loads the model when it is first asked for it."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=FIRST_ANSWER_SECONDS)
        try:
            body = json.dumps({"model": MODEL, "prompt": "one", "max_tokens": 1})
            connection.request("POST", "/v1/completions", body, {"content-type": "application/json"})
            answer = connection.getresponse()
            content = answer.read().decode(errors="replace")
        except OSError as error:
            raise StartError(f"transformers serve did not answer its first request: {error}") from error
        finally:
            connection.close()
        if answer.status != 200:
            raise StartError(f"transformers serve answered its first request with {answer.status}: {content[:500]}")
