"""A Ray cluster of several hosts on this machine, as near to the real thing as one machine gets.

Every node is `ray start` in a network namespace with an address of its own, behind one bridge; in a process namespace,
so that it sees no other Ray of this machine and dies as a whole; and with a temporary folder and a host's name of its
own. What the test's folder holds, all share, as hosts share a file server. This process is the laptop: it reaches the
head by its address, and has the token or not.
"""

import os
import secrets
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

RAY = str(Path(sys.executable).parent / "ray")
_DASHBOARD = 8265
_START = 'hostname "$1" && mount --bind "$2" "$3" && shift 3 && exec "$@"'  # in the node's own namespaces


def why_not_here() -> str | None:
    """What keeps this machine from it, if anything does."""
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("unshare"):
        return "needs root, ip (iproute2) and unshare (util-linux)"
    probe = f"dgprobe{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    if made.returncode:
        return f"no network namespaces here: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", probe], check=True)
    return None


class Node:
    """A host; runs from start() to kill()."""

    def __init__(self, network: "Network", number: int, arguments: tuple[str, ...]):
        self.name, self.address = f"{network.name}n{number}", f"{network.subnet}.{number}"
        self._network, self._arguments = network, arguments
        self.own = network.folder / self.name  # what it sees as the temporary folder
        self.own.mkdir()
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        """Returns at once; wait() returns when Ray has started."""
        namespaces = ["ip", "netns", "exec", self.name, "unshare", "--uts", "--pid", "--fork", "--kill-child"]
        inside = ["bash", "-c", _START, "start", self.name, str(self.own), str(self._network.temporary)]
        ray = [RAY, "start", "--block", "--node-ip-address", self.address, *self._arguments]
        self.log.write_bytes(b"")
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*namespaces, "--mount-proc", *inside, *ray],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._network.environment_of_nodes(),
                cwd="/",
                start_new_session=True,
            )

    @property
    def log(self) -> Path:
        return self._network.folder / f"{self.name}.log"

    def wait(self, seconds: float = 120.0) -> None:
        end = time.monotonic() + seconds
        while b"Ray runtime started" not in self.log.read_bytes():
            assert self._process.poll() is None and time.monotonic() < end, self.log.read_text()
            time.sleep(0.2)

    def kill(self) -> None:
        """Take the host away in an instant, with all that runs on it."""
        if self._process is not None:
            self._process.kill()  # its child is process 1 of the node's namespace and dies with it, and so all others
            self._process.wait()
            end = time.monotonic() + 30
            while self.processes() and time.monotonic() < end:
                time.sleep(0.1)

    def processes(self) -> list[int]:
        found = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=True)
        return [int(pid) for pid in found.stdout.split()]

    def metrics(self) -> str:
        """What its Prometheus endpoint says of our runs."""
        ports = self.own.glob("session_*/metrics_export_port_*")
        newest = max(ports, key=lambda file: file.stat().st_mtime, default=None)
        if newest is None:
            return ""
        address = f"http://{self.address}:{newest.read_text().strip()}/metrics"
        with urllib.request.urlopen(address, timeout=10) as page:
            lines = page.read().decode().splitlines()
        return "\n".join(line for line in lines if line.startswith("ray_distmgcd_"))


class Network:
    """Hosts that see each other, and this machine; a context."""

    def __init__(self, folder: Path):
        """folder: what all nodes share, and this process."""
        self.folder = folder
        self.temporary = Path(f"/tmp/dg{os.getpid()}")  # short: Unix sockets of Ray lie in it
        self.name = f"dg{os.getpid() % 100000}"
        self.subnet = f"10.{os.getpid() // 250 % 200 + 50}.{os.getpid() % 250}"
        self.token_file = folder / "token"
        self.token_file.touch(mode=0o600)
        self.token_file.write_text(secrets.token_hex(32))
        self._nodes: list[Node] = []

    def __enter__(self) -> "Network":
        self.temporary.mkdir()
        _ip("link", "add", self.name, "type", "bridge")
        _ip("address", "add", f"{self.subnet}.1/24", "dev", self.name)
        _ip("link", "set", self.name, "up")
        return self

    def __exit__(self, *_: object) -> None:
        for node in self._nodes:
            node.kill()
        left = {node.name: node.processes() for node in self._nodes}
        for node in self._nodes:
            _ip("netns", "delete", node.name)
        _ip("link", "delete", self.name)
        self.temporary.rmdir()
        assert not any(left.values()), left

    def head(self) -> Node:
        """Holds no workers, as the head of a real cluster should not."""
        addresses = ("--port=6379", f"--dashboard-host={self.subnet}.2", f"--dashboard-port={_DASHBOARD}")
        return self._node("--head", *addresses, "--num-cpus=0", f"--temp-dir={self.temporary}")

    def worker(self) -> Node:
        return self._node(f"--address={self.subnet}.2:6379", "--num-cpus=1")

    def environment(self, *, token: str | None = "right") -> dict[str, str]:
        """Of a command on the laptop; token: right, wrong or None."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        clean |= {"RAY_API_SERVER_ADDRESS": f"http://{self.subnet}.2:{_DASHBOARD}", "HOME": str(self.folder)}
        if token == "wrong":
            return clean | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
        return clean | ({"RAY_AUTH_TOKEN_PATH": str(self.token_file)} if token else {})

    def environment_of_nodes(self) -> dict[str, str]:
        """They have the installed dependencies, but not this working tree: that is for the job to bring."""
        kept = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "DISTMGCD_CACHE") if name in os.environ}
        return kept | {
            "PATH": f"{Path(RAY).parent}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token_file),
            "RAY_USAGE_STATS_ENABLED": "0",
        }

    def _node(self, *arguments: str) -> Node:
        number = len(self._nodes) + 2
        node = Node(self, number, arguments)
        _ip("netns", "add", node.name)
        self._nodes.append(node)
        _ip("link", "add", f"{node.name}v", "type", "veth", "peer", "name", "eth0", "netns", node.name)
        _ip("link", "set", f"{node.name}v", "master", self.name, "up")
        for settings in (("address", "add", f"{node.address}/24", "dev", "eth0"), ("link", "set", "eth0", "up")):
            _ip("-netns", node.name, *settings)
        _ip("-netns", node.name, "link", "set", "lo", "up")
        return node


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
