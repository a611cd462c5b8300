"""What a node makes on its machine outside of its processes, and how that is removed again: bridge, rules, mounts."""

import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.support.cluster import wait_until

FOLDER: Final = Path("/var/tmp/asset-token-node")
BRIDGE: Final = "astoken0"
ADDRESS: Final = "10.217.0.1"
SUBNET: Final = "10.217.0.0/24"
API_SERVICE: Final = "10.0.0.1"
CGROUPS: Final = Path("/sys/fs/cgroup")
END_SECONDS: Final = 60
CTR: Final = (f"--address={FOLDER / 'containerd.sock'}", "--namespace=k8s.io")


def ctr(*arguments: str) -> list[str]:
    """Run containerd's own client; the words it wrote."""
    return call("ctr", *CTR, *arguments).split()


def add_network(api_port: str) -> None:
    """Make the bridge, and lead the API server's Service to the API server, which listens on loopback."""
    remove_network()
    call("ip", "link", "add", BRIDGE, "type", "bridge")
    call("ip", "address", "add", f"{ADDRESS}/{SUBNET.rpartition('/')[2]}", "dev", BRIDGE)
    call("ip", "link", "set", BRIDGE, "up")
    Path(f"/proc/sys/net/ipv4/conf/{BRIDGE}/route_localnet").write_text("1")
    rule = f"-i {BRIDGE} -d {API_SERVICE} -p tcp --dport 443 -j DNAT --to-destination 127.0.0.1:{api_port}"
    call("iptables", "--table=nat", "--append=PREROUTING", *rule.split())


def remove_network() -> None:
    """Remove the rules and the bridge, where they are."""
    for rule in call("iptables", "--table=nat", "--list-rules=PREROUTING").splitlines():
        if BRIDGE in rule.split():
            call("iptables", "--table=nat", *rule.replace("-A ", "-D ", 1).split())
    if Path("/sys/class/net", BRIDGE).exists():
        call("ip", "link", "delete", BRIDGE)


def end_tasks() -> None:
    """End the containers that are left, whoever started them."""

    def none_left() -> bool:
        tasks = ctr("tasks", "ls", "--quiet")
        for task in tasks:
            succeeds("ctr", *CTR, "tasks", "delete", "--force", task)  # not, where it is just ending by itself
        return not tasks

    wait_until(none_left, END_SECONDS, "all containers have ended")
    for container in ctr("containers", "ls", "--quiet"):
        ctr("containers", "delete", container)


def unmount() -> None:
    """Unmount everything below the node's folder, the last first, and remove its empty control groups."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in reversed(points):
        if Path(point).is_relative_to(FOLDER):
            call("umount", point)
    for group in (CGROUPS / "k8s.io", *CGROUPS.glob("*/k8s.io")):
        with suppress(OSError):  # it isn't there, or is another's
            group.rmdir()


def succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def call(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=END_SECONDS)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout
