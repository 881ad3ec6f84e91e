"""`python -m bes_training pack FOLDER`: a trained folder as the ConfigMap that a service imports."""

import argparse
import sys
from pathlib import Path

import yaml

from bes_api.config_map import data_digest
from bes_api.report import EvaluationReport
from bes_api.training_order import ArtifactPlace
from bes_training.evaluation.command import REPORT
from bes_training.job.packing import config_map, pack
from bes_training.learning.train import POLICY


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("folder", type=Path, help="what `bes train --out` named: with policy/ and evaluation.json")
    parser.add_argument("--name", required=True, help="of the ConfigMap, as source.imported.configMapName has it")
    parser.add_argument("--namespace", required=True, help="the service's")


def run(arguments: argparse.Namespace) -> int:
    """YAML for `kubectl apply --server-side`; the digest, for source.imported.digest, is in its first line."""
    files = pack(arguments.folder / POLICY, EvaluationReport.read(arguments.folder / REPORT))
    place = ArtifactPlace(namespace=arguments.namespace, prefix="imported")
    manifest = config_map(files, place, owner=None)
    manifest["metadata"] = {"name": arguments.name, "namespace": arguments.namespace}
    sys.stdout.write(f"# digest: {data_digest(files)}\n{yaml.safe_dump(manifest, sort_keys=False)}")
    return 0
