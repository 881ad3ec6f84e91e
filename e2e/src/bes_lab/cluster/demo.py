"""`make cluster-demo`: a cluster, the chart, the sample service and its training, and a burst through its Service.

Everything that the table says was measured on the cluster: pods scheduled by their GPUs, two routers behind a Service,
load figures from a Prometheus, a policy that a Job trained and the operator judged. The simulator's word stands beside.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bes_api.command import exit_code_of
from bes_api.config_map import files_in
from bes_api.documents import the_service
from bes_api.output import prepare_folder
from bes_api.router_config import DeliveredPolicy, PolicyChoice, RouterConfig
from bes_api.scenario import Scenario
from bes_api.scenario_of import scenario_of
from bes_api.service import BestEffortService
from bes_lab import clips, prediction
from bes_lab.cluster import devices
from bes_lab.cluster.checkout import checkout
from bes_lab.cluster.images import PROMETHEUS, IMAGES, TAG, the_builder
from bes_lab.cluster.kind import Kind, docker_answers
from bes_lab.cluster.layout import the_state
from bes_lab.cluster.native import Native
from bes_lab.cluster.programs import output, the_programs
from bes_lab.errors import ClusterError
from bes_lab.local.policies import artifact_choice, name_of
from bes_lab.replay.arrivals import Playing, arrivals_of, usual_speed
from bes_lab.replay.report import write_json
from bes_lab.replay.trace import read
from bes_lab.results import RESULTS, Record, Recorder, recorder, write
from bes_lab.staleness import LAG_SECONDS
