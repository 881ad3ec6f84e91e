"""What travels in a ConfigMap between operator, training and router: keys, size, digest and the mounted folder."""

import base64
import binascii
import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from bes_api.errors import ConfigurationError

ROUTER_CONFIG = "router.json"
PASSPORT = "passport.json"
WEIGHTS = "weights.safetensors"
REPORT = "report.json.gz"
"""Of the evaluation by which an artifact is judged; routers leave it alone."""
MAX_BYTES = 1024 * 1024
"""The API server refuses a larger ConfigMap."""
MAX_ARTIFACT_BYTES = 900 * 1024
"""All files of an artifact together."""
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]

_MOUNTED = "..data"  # kubelet's link to the folder that holds one version of all files; exchanged in one step
_ATTEMPTS = 3


def data_digest(data: Mapping[str, bytes]) -> str:
    """``sha256:...`` of files by name, in whatever order: the same for a ConfigMap's data and for its mounted folder.

    Hashed is, for each name in the order of its UTF-8 bytes: the name's length (8 bytes, big-endian), the name, the
    content's length (the same), the content. Values of `data` count as UTF-8, those of `binaryData` as they decode.
    """
    found = hashlib.sha256()
    for name, content in sorted((os.fsencode(name), content) for name, content in data.items()):
        for part in (name, content):
            found.update(len(part).to_bytes(8, "big"))
            found.update(part)
    return "sha256:" + found.hexdigest()


def data_of(files: Mapping[str, bytes]) -> dict[str, dict[str, str]]:
    """``data`` and ``binaryData`` of a ConfigMap with these files; what is text can be read there as it is."""
    text = {name: read for name, content in sorted(files.items()) if (read := _as_text(content)) is not None}
    packed = {name: base64.b64encode(content).decode() for name, content in sorted(files.items()) if name not in text}
    return {key: values for key, values in (("data", text), ("binaryData", packed)) if values}


def _as_text(content: bytes) -> str | None:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def files_in(config_map: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of a ConfigMap by name. Raises ConfigurationError for ``binaryData`` that is no base64."""
    files = {str(name): str(content).encode() for name, content in (config_map.get("data") or {}).items()}
    for name, content in (config_map.get("binaryData") or {}).items():
        try:
            files[str(name)] = base64.b64decode(content, validate=True)
        except (binascii.Error, ValueError, TypeError) as error:
            raise ConfigurationError(f"{name}: is no base64: {error}") from error
    return files


def is_mounted(folder: Path) -> bool:
    """Whether kubelet keeps ``folder``: then what it shows is always whole."""
    return (folder / _MOUNTED).is_symlink()


def stamp_of(path: Path) -> tuple[object, ...]:
    """Changes when a file of ``path`` (as `read_files` would read it) may have; costs a few microseconds a file."""
    try:
        with _opened(path) as (folder, names):
            found = [(name, os.stat(name, dir_fd=folder)) for name in names]
    except OSError as error:
        return (error.errno,)
    return tuple((name, of.st_ino, of.st_size, of.st_mtime_ns, of.st_ctime_ns) for name, of in found)


def read_files(path: Path, limit: int) -> dict[str, bytes]:
    """The files of a folder by name, or the one file at ``path``; subfolders and kubelet's own ``..`` names stay out.

    Raises ConfigurationError, also where the files together have more than ``limit`` bytes.
    """
    for _ in range(_ATTEMPTS):
        try:
            with _opened(path) as (folder, names):
                files = _read(path, folder, names, limit)
                if not is_mounted(path) or os.path.samestat(os.fstat(folder), (path / _MOUNTED).stat()):
                    return files  # else kubelet may have begun to remove this version before all of it was read
        except FileNotFoundError:
            continue  # exchanged while being read: the next attempt meets the new version
        except OSError as error:
            raise ConfigurationError(f"{path}: cannot be read: {error.strerror or error}") from error
    raise ConfigurationError(f"{path}: cannot be read: {os.strerror(2)}")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[int, list[str]]]:
    """A descriptor of the folder, which stays that version's whatever is exchanged meanwhile, and the names in it."""
    single = not path.is_dir()
    where = path.parent if single else path / _MOUNTED if is_mounted(path) else path
    folder = os.open(where, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if single:
            yield folder, [path.name]
        else:
            with os.scandir(folder) as entries:
                names = sorted(each.name for each in entries if not each.name.startswith("..") and not each.is_dir())
            yield folder, names
    finally:
        os.close(folder)


def _read(path: Path, folder: int, names: list[str], limit: int) -> dict[str, bytes]:
    files = {}
    left = limit
    for name in names:
        # a pipe of that name must not stop the reader for ever
        file = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        with open(file, "rb") as opened:  # noqa: PTH123 - a descriptor has no path
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise ConfigurationError(f"{path}: {name} is not an ordinary file; remove it")
            content = opened.read(left + 1)
        left -= len(content)
        if left < 0:
            raise ConfigurationError(f"{path}: its files are larger than {limit} bytes; this is nothing of ours")
        files[name] = content
    return files
