"""Images of a native cluster's nodes: docker archives, imported into each node's containerd once per content."""

import json
import tarfile
from pathlib import Path

from bes_api.output import write_whole
from bes_lab.cluster.archive import COREDNS, PAUSE, ProgramImage
from bes_lab.cluster.layout import NETNS, Node, State
from bes_lab.cluster.programs import Programs, output, succeeds
from bes_lab.errors import ClusterError

_NOBODY = 65532
_IMPORT_SECONDS = 900.0


class NodeImages:
    """Archives that every node holds from its start, and loading more."""

    def __init__(self, state: State, programs: Programs) -> None:
        self._state, self._programs = state, programs
        self.archives = state.folder / "archives"

    def kept(self) -> list[Path]:
        """The archives of what every node runs, written if they are not there."""
        self.archives.mkdir(exist_ok=True)
        found = []
        for name, program in ((PAUSE, "pause"), (COREDNS, "coredns")):
            binary = Path(self._programs[program])
            image = ProgramImage(name, binary, _NOBODY)
            path = self.archives / image.archive_name
            if not path.exists():
                image.write(path)
            found.append(path)
        return found

    def answers(self, node: Node) -> bool:
        """Whether the node's containerd does."""
        return succeeds(*self._ctr(node), "version")

    def load(self, node: Node, archive: Path) -> None:
        """Import an archive unless the node holds it. Raises ClusterError."""
        if not archive.is_file():
            raise ClusterError(f"{archive}: no such file; `make images` writes the project's archives")
        stat = archive.stat()
        stamp = f"{archive.resolve()} {stat.st_size} {stat.st_mtime_ns}"
        noted = self._state.node(node) / "loaded-images.json"
        loaded: dict[str, str] = json.loads(noted.read_text(encoding="utf-8")) if noted.exists() else {}
        # By name, because an archive that was loaded may have lost its name to a later one.
        names = names_in(archive)
        if all(loaded.get(name) == stamp for name in names):
            return
        output(*self._ctr(node), "images", "import", archive.resolve(), seconds=_IMPORT_SECONDS)
        write_whole(noted, json.dumps({**loaded, **dict.fromkeys(names, stamp)}, indent=1) + "\n")

    def names(self, node: Node) -> list[str]:
        """Names of the images that the node holds."""
        listed = output(*self._ctr(node), "images", "list", "--quiet").splitlines()
        return sorted(name for name in listed if "@" not in name and not name.startswith("sha256:"))

    def _ctr(self, node: Node) -> tuple[str, ...]:
        entered = (
            self._programs["nsenter"],
            f"--net={NETNS / node.netns}",
            f"--mount={self._state.mounts(node)}",
            "--",
        )
        return (*entered, self._programs["ctr"], "--namespace=k8s.io")


def names_in(archive: Path) -> list[str]:
    """The names that a docker archive gives to its images. Raises ClusterError for another file."""
    try:
        with tarfile.open(archive) as opened:
            manifest = opened.extractfile("manifest.json")
            described = json.load(manifest) if manifest is not None else []
        return [name for image in described for name in image["RepoTags"] or ()]
    except (tarfile.TarError, KeyError, ValueError, TypeError):
        raise ClusterError(f"{archive}: no docker archive; `docker save` and `make images` write such") from None
