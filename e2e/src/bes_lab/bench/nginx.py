"""nginx as the yardstick: found on this machine, or Debian's package unpacked under build/ (no root, no service).

Nothing is installed into the system, so a benchmark leaves no daemon on port 80 behind.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

_CONFIGURATION = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000;
  upstream engines {{
{servers}
    keepalive 64;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://engines;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }}
  }}
}}
"""


def find(unpack_to: Path) -> Path | None:
    """The nginx binary: the system's, one unpacked earlier, or Debian's package unpacked now; None where none can be.

    Only the package itself is unpacked; a machine without its few common libraries counts as one without nginx.
    """
    unpacked = unpack_to / "usr/sbin/nginx"
    installed = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    for binary in (installed, unpacked):
        if binary and _runs(Path(binary)):
            return Path(binary)
    apt, unpack = shutil.which("apt-get"), shutil.which("dpkg-deb")
    if apt is None or unpack is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        if not _download(apt, Path(folder)):
            if os.geteuid() != 0:
                return None
            subprocess.run([apt, "-qq", "update"], check=False)
            if not _download(apt, Path(folder)):
                return None
        unpack_to.mkdir(parents=True, exist_ok=True)
        for package in Path(folder).glob("*.deb"):
            subprocess.run([unpack, "-x", package, unpack_to], check=True)
    return unpacked if _runs(unpacked) else None


def _download(apt: str, folder: Path) -> bool:
    # apt's unprivileged download user may not write into a private folder; the warning about it is of no interest
    done = subprocess.run([apt, "-qq", "download", "nginx"], cwd=folder, check=False, stderr=subprocess.DEVNULL)
    return done.returncode == 0 and any(folder.glob("*.deb"))


def _runs(binary: Path) -> bool:
    return binary.exists() and subprocess.run([binary, "-v"], capture_output=True, check=False).returncode == 0


def version(binary: Path) -> str:
    """The version as nginx says it."""
    said = subprocess.run([binary, "-v"], capture_output=True, text=True, check=True).stderr
    return said.strip().rpartition("/")[2]


def start(binary: Path, folder: Path, port: int, engines: list[int]) -> subprocess.Popen[bytes]:
    """A proxy on 127.0.0.1:``port`` with one worker and kept-alive connections to every engine."""
    folder.mkdir(parents=True, exist_ok=True)
    servers = "\n".join(f"    server 127.0.0.1:{engine};" for engine in engines)
    configuration = folder / "nginx.conf"
    user = "user root;\n" if os.geteuid() == 0 else ""
    configuration.write_text(user + _CONFIGURATION.format(folder=folder, port=port, servers=servers))
    return subprocess.Popen([binary, "-p", folder, "-e", folder / "error.log", "-c", configuration])
