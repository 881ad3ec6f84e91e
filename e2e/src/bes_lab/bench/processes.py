"""What a process and its children cost, read from /proc: processor time, memory, and the time until it answers."""

import os
import socket
import time
from pathlib import Path

import psutil

_TICKS = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """``pid`` and all its descendants that live."""
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def cpu_seconds(pid: int) -> float:
    """Processor time, user and system, that ``pid`` and its descendants have used so far.

    From the scheduler's own sum where the kernel has it (nanoseconds), else from the clock ticks of /proc/PID/stat.
    """
    return sum(_cpu_seconds_of_one(member) for member in family(pid))


def _cpu_seconds_of_one(pid: int) -> float:
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9
    except FileNotFoundError:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


def memory_megabytes(pid: int) -> float:
    """Proportional set size of ``pid`` and its descendants, in 10^6 bytes: shared pages are counted once."""
    total = 0
    for member in family(pid):
        for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total / 1e6


def wait_until_answers(port: int, path: str, limit_seconds: float = 15.0) -> float:
    """Seconds from now until ``GET path`` on 127.0.0.1 answers 200. Raises TimeoutError after the limit."""
    started = time.perf_counter()
    request = f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n".encode()
    while time.perf_counter() - started < limit_seconds:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
                connection.sendall(request)
                if connection.recv(64).startswith(b"HTTP/1.1 200"):
                    return time.perf_counter() - started
        except OSError:
            pass
        time.sleep(0.005)
    raise TimeoutError(f"nothing answered GET {path} on port {port} within {limit_seconds:.0f} s")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
