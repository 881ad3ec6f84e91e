"""Images of one static program each, written as docker archives without any tool: pause and CoreDNS."""

import hashlib
import io
import json
import platform
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bes_api.output import whole_file

PAUSE, COREDNS = "localhost/best-effort-serving-pause:1", "localhost/best-effort-serving-coredns:1"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_WHEN = "1970-01-01T00:00:00Z"
_PATH = "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


@dataclass(frozen=True)
class ProgramImage:
    """An image that holds one program and starts it as ``user`` (a numeric id)."""

    name: str
    program: Path
    user: int

    @property
    def archive_name(self) -> str:
        """A file name that says everything it is built from, where the program's folder does."""
        said = hashlib.sha256(f"{self.name} {self._place} {self.user}".encode()).hexdigest()
        return f"{self.program.parent.name}-{said[:8]}.tar"

    @property
    def _place(self) -> PurePosixPath:
        """Not at the root, where a pod may want to mount a folder of the program's name."""
        return PurePosixPath("bin") / self.program.name

    def write(self, path: Path) -> None:
        """The archive, whole or not there."""
        layer = _layer(self._place, self.program.read_bytes())
        digest = hashlib.sha256(layer).hexdigest()
        configuration = json.dumps(self._configuration(digest)).encode()
        named = f"{hashlib.sha256(configuration).hexdigest()}.json"
        manifest = [{"Config": named, "RepoTags": [self.name], "Layers": [f"{digest}/layer.tar"]}]
        with whole_file(path) as part, tarfile.open(part, "w") as archive:
            _add(archive, f"{digest}/layer.tar", layer)
            _add(archive, named, configuration)
            _add(archive, "manifest.json", json.dumps(manifest).encode())

    def _configuration(self, digest: str) -> dict[str, object]:
        return {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "created": _WHEN,
            "config": {"Entrypoint": [f"/{self._place}"], "User": str(self.user), "Env": [_PATH]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            "history": [{"created": _WHEN}],
        }


def _layer(path: PurePosixPath, content: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        _add(archive, str(path), content, mode=0o755)
    return made.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    archive.addfile(member, io.BytesIO(content))
