"""Folders as kubelet mounts ConfigMaps: one version of all files behind a link that is exchanged in one step."""

import shutil
from collections.abc import Mapping
from pathlib import Path


def mount(folder: Path, files: Mapping[str, bytes]) -> None:
    """Show ``files`` in ``folder``, all at once, in the order of kubelet's own steps (AtomicWriter)."""
    folder.mkdir(parents=True, exist_ok=True)
    old = folder / "..data"
    before = old.resolve() if old.is_symlink() else None
    new = folder / f"..{0 if before is None else int(before.name[2:]) + 1}"
    new.mkdir()
    for name, content in files.items():
        (new / name).write_bytes(content)
    (folder / "..data_tmp").symlink_to(new.name)
    (folder / "..data_tmp").replace(old)
    for name in files:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    for shown in folder.iterdir():
        if not shown.name.startswith("..") and shown.name not in files:
            shown.unlink()
    if before is not None:
        shutil.rmtree(before)
