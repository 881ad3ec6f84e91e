"""`make images`: the project's images as docker archives in the cache, without Docker, registry or a base image.

The base is Debian with its Python, made by debootstrap. buildah builds in a chroot, with the machine's certificates and
pip's settings mounted for the build only. An archive is named by everything that it was built from.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from bes_api.command import exit_code_of
from bes_api.output import whole_file
from bes_lab.cluster.archive import ProgramImage
from bes_lab.cluster.checkout import checkout
from bes_lab.cluster.layout import cache
from bes_lab.cluster.programs import Programs, the_programs
from bes_lab.errors import ClusterError

SUITE = "bookworm"
BASE_PACKAGES = ("python3", "python3-pip", "python3-venv", "ca-certificates")
BASE = "localhost/best-effort-serving-base"
RELEASE = version("best-effort-serving")
"""The images' tag: what the chart of this checkout asks for."""
_NOBODY = 65532
_UNUSED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt/archives", "var/lib/apt/lists")
_MOUNTED = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")
"""Of this machine, where it has them: what a build needs to reach the package indexes as this machine does."""
_BASE_DOCKERFILE = """\
FROM scratch
ADD rootfs.tar /
ENV PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin LANG=C.UTF-8
CMD ["python3"]
"""


@dataclass(frozen=True)
class Image:
    """One image of the project, built from the checkout's root."""

    room: str
    dockerfile: str

    @property
    def name(self) -> str:
        """Its full reference on a cluster of ours."""
        return f"localhost/best-effort-serving-{self.room}:{RELEASE}"

    def inputs(self, root: Path) -> Iterator[Path]:
        """Every file that its Dockerfile copies, and the Dockerfile."""
        yield root / self.dockerfile
        for line in (root / self.dockerfile).read_text(encoding="utf-8").splitlines():
            words = line.split()
            if words[:1] == ["COPY"] and not words[1].startswith("--"):
                for source in words[1:-1]:
                    found = root / source
                    yield from sorted(_files(found)) if found.is_dir() else [found]

    def digest(self, root: Path, base: str) -> str:
        """What it is built from, as a short name."""
        content = hashlib.sha256(f"{base}\0{self.name}".encode())
        for path in self.inputs(root):
            content.update(f"\0{path.relative_to(root)}\0".encode() + path.read_bytes())
        return content.hexdigest()[:16]


IMAGES: Mapping[str, Image] = {
    image.room: image
    for image in (
        Image("operator", "operator/Dockerfile"),
        Image("router", "router/Dockerfile"),
        Image("engine", "e2e/Dockerfile"),
        Image("training", "policy_training/Dockerfile"),
    )
}


PROMETHEUS = "localhost/best-effort-serving-prometheus:dev"
"""For tests on clusters without one. Debian's is built without Kubernetes' discovery: `make kubernetes` builds this."""
_ROOMS = (*IMAGES, "prometheus")


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


class Builder:
    """Builds into ``folder``: archives, and buildah's own store."""

    def __init__(self, root: Path, folder: Path, programs: Programs) -> None:
        self._root, self._folder, self._programs = root, folder, programs

    def archive(self, image: Image) -> Path:
        """The image's archive, built unless it is there; older ones of it go. Raises ClusterError."""
        base = self._base_digest()
        path = self._folder / f"{image.room}-{image.digest(self._root, base)}.tar"
        if path.exists():
            return path
        self._base(base)
        self._build(image.name, self._root / image.dockerfile, self._root, f"--build-arg=BASE_IMAGE={BASE}:{base}")
        for older in self._folder.glob(f"{image.room}-*.tar"):
            older.unlink()
        with whole_file(path) as part:
            part.unlink(missing_ok=True)
            self._buildah("push", "--quiet", image.name, f"docker-archive:{part}:{image.name}")
        return path

    def prometheus(self) -> Path:
        """The archive of a Prometheus. Raises ClusterError."""
        image = ProgramImage(PROMETHEUS, Path(self._programs["prometheus"]), _NOBODY)
        path = self._folder / image.archive_name
        if not path.exists():
            for older in self._folder.glob("prometheus-*.tar"):
                older.unlink()
            image.write(path)
        return path

    def runs(self, image: Image, program: str) -> str:
        """Run ``program`` in the built image's Python, as the image's user; what it complained about, or nothing."""
        container = self._buildah("from", image.name).strip()
        try:
            self._buildah("run", "--isolation=chroot", container, "--", "python3", "-c", program)
        except ClusterError as error:
            return str(error)
        else:
            return ""
        finally:
            self._buildah("rm", container)

    def _base_digest(self) -> str:
        said = "\0".join((SUITE, *BASE_PACKAGES, *_UNUSED, _BASE_DOCKERFILE))
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    def _base(self, digest: str) -> None:
        named = f"{BASE}:{digest}"
        if named in self._buildah("images", "--format", "{{.Name}}:{{.Tag}}").split():
            return
        _say(f"making the base image: Debian {SUITE} with {BASE_PACKAGES[0]} (the first time: a minute)")
        with tempfile.TemporaryDirectory(dir=self._folder) as made:
            rootfs, context = Path(made) / "rootfs", Path(made) / "context"
            context.mkdir()
            self._run("debootstrap", "--variant=minbase", f"--include={','.join(BASE_PACKAGES)}", SUITE, str(rootfs))
            for name in _UNUSED:
                for part in (rootfs / name).iterdir():
                    shutil.rmtree(part) if part.is_dir() and not part.is_symlink() else part.unlink()
            self._run("tar", "-C", str(rootfs), "--numeric-owner", "-cf", str(context / "rootfs.tar"), ".")
            (context / "Dockerfile").write_text(_BASE_DOCKERFILE, encoding="utf-8")
            self._build(named, context / "Dockerfile", context)

    def _build(self, name: str, dockerfile: Path, context: Path, *arguments: str) -> None:
        mounts = [f"--volume={place}:{place}:ro" for place in _MOUNTED if Path(place).exists()]
        self._buildah(
            "bud",
            "--layers",
            "--isolation=chroot",
            *mounts,
            *arguments,
            f"--tag={name}",
            f"--file={dockerfile}",
            str(context),
        )

    def _buildah(self, *arguments: str) -> str:
        store = ["--root", str(self._folder / "store"), "--runroot", str(self._folder / "run")]
        return self._run("buildah", *store, "--storage-driver=overlay", *arguments)

    def _run(self, name: str, *arguments: str) -> str:
        """Its output; what it says goes into a log, whose end explains a failure."""
        log = self._folder / "build.log"
        with log.open("ab") as complaints:
            begun = complaints.tell()
            environment = {**os.environ, "PATH": self._programs.path}
            command = [self._programs[name], *arguments]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=complaints, env=environment, check=False)
            complaints.write(done.stdout)
        if done.returncode:
            said = log.read_bytes()[begun:].decode(errors="replace").strip()[-1500:]
            raise ClusterError(f"`{name} {arguments[-1]}` failed; the end of {log}:\n{said}")
        return done.stdout.decode(errors="replace")


def built_archives() -> Path:
    """The folder of the archives."""
    return cache() / "images"


def the_builder() -> Builder:
    """For this checkout, into the user's cache."""
    folder = built_archives()
    folder.mkdir(parents=True, exist_ok=True)
    return Builder(checkout(), folder, the_programs())


def main() -> int:
    """Build what is asked for; the archives on stdout, one a line."""
    parser = argparse.ArgumentParser(prog="python -m bes_lab.cluster.images", description="build the project's images")
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help=f"of {', '.join(_ROOMS)} (default: all)")
    rooms = parser.parse_args().rooms
    if unknown := set(rooms) - set(_ROOMS):
        parser.error(f"no image {', '.join(sorted(unknown))}; there are {', '.join(_ROOMS)}")
    return exit_code_of("images", lambda: _build_all(rooms or _ROOMS))


def _build_all(rooms: Sequence[str]) -> int:
    if os.geteuid() != 0:
        raise ClusterError(
            "building without Docker needs root; with Docker: docker build -f DOCKERFILE . for each room"
        )
    builder = the_builder()
    for room in rooms:
        image = IMAGES.get(room)
        path = builder.archive(image) if image else builder.prometheus()
        _say(f"{image.name if image else PROMETHEUS}: {path.stat().st_size / 1e6:.0f} MB")
        print(path)  # noqa: T201 - what was asked for
    return 0


def _say(line: str) -> None:
    print(f"== {line}", file=sys.stderr)  # noqa: T201 - progress


if __name__ == "__main__":
    sys.exit(main())
