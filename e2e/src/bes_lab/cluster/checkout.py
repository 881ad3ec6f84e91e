"""The checkout that the cluster's room works from: images are built from its sources, programs from its locks."""

from pathlib import Path

from bes_lab.errors import ClusterError


def checkout() -> Path:
    """The project's folder. Raises ClusterError where the lab runs from an installed package."""
    root = Path(__file__).resolve().parents[4]
    if not (root / "e2e" / "cluster" / "go").is_dir():
        raise ClusterError("a cluster is made from the project's checkout, and this is an installed package: clone it")
    return root
