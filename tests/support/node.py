"""A node for a control plane of ours, on which Pods run: containerd, kubelet and scheduler as processes. Needs root.

There is one node a machine at a time: its folder, bridge and subnet have fixed names, so that whatever a killed session
left is found and removed by the next. Pods reach the API server and what listens on the bridge's address, and nothing
else: there is no DNS, no route to elsewhere, and nobody enforces NetworkPolicies.
"""

import fcntl
import json
import os
import shutil
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, Self

from tests.support.cluster import Json, KubectlError, WaitTimeoutError, wait_until
from tests.support.component import Component, free_ports
from tests.support.controlplane import ControlPlane
from tests.support.machine import (
    ADDRESS,
    BRIDGE,
    CTR,
    END_SECONDS,
    FOLDER,
    SUBNET,
    add_network,
    ctr,
    end_tasks,
    remove_network,
    succeeds,
    unmount,
)

NAME: Final = "one-node"
LOCK: Final = Path("/run/lock/asset-token-node")
FIRST_POD: Final = "10.217.0.10"
SERVICES: Final = "10.0.0.0/24"
PAUSE: Final = "localhost/pause:1"
CNI: Final = Path("/usr/lib/cni")

PROMPT: Final[Json] = {"syncFrequency": "5s"}
"""A kubelet that shows Pods a changed Secret within seconds: by default it takes up to a minute and a half."""

APISERVER_ARGS: Final = ("--kubelet-preferred-address-types=InternalIP",)
"""What the control plane needs for `kubectl logs` and `exec`."""

PACKAGES: Final = {
    "buildah": "buildah",
    "busybox": "busybox-static",
    "containerd": "containerd",
    "ctr": "containerd",
    "ip": "iproute2",
    "iptables": "iptables",
    "mmdebstrap": "mmdebstrap",
    "runc": "runc",
    str(CNI / "bridge"): "containernetworking-plugins",
}
"""Debian's package of each program."""


def missing() -> str:
    """Say what this machine lacks, and what to do; nothing where it lacks nothing."""
    if sys.platform != "linux":
        return "A node needs Linux."
    if os.geteuid():
        return "A node needs root: it makes a bridge, mounts and containers."
    packages = {package for program, package in PACKAGES.items() if shutil.which(program) is None}
    needed = " ".join(sorted(packages))
    return f"First: apt-get install --no-install-recommends {needed}" if packages else ""


class Node:
    """The node; a context manager.

    Args:
        controlplane: Started with `APISERVER_ARGS`.
        programs: The paths of `kubelet` and `kube-scheduler`.
        pause: The archive of an image named `PAUSE`, which holds a Pod's namespaces.
        kubelet: Settings in place of the kubelet's defaults.
    """

    def __init__(
        self, controlplane: ControlPlane, programs: Mapping[str, Path], pause: Path, kubelet: Json = PROMPT
    ) -> None:
        self._controlplane = controlplane
        self._programs = programs
        self._pause = pause
        self._kubelet = kubelet

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            lock = stack.enter_context(LOCK.open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._launcher = stack.enter_context(ThreadPoolExecutor(1, "launcher"))
            if FOLDER.exists():
                self._remove_leftovers()
            self._write_files()
            stack.callback(shutil.rmtree, FOLDER)
            stack.callback(remove_network)
            add_network(self._controlplane.server.rpartition(":")[2])
            stack.callback(unmount)
            self._start_containerd(stack)
            self.load(self._pause)
            self._start_kubernetes(stack)
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def kubelet_settings(self) -> Json:
        """The settings that the kubelet really has."""
        said = self._controlplane.api.get(f"/api/v1/nodes/{NAME}/proxy/configz")
        settings: Json = said["kubeletconfig"]
        return settings

    def load(self, archive: Path) -> None:
        """Give the node an image."""
        ctr("images", "import", str(archive))

    def _start_containerd(self, stack: ExitStack) -> None:
        containerd = self._component(_found("containerd"), f"--config={FOLDER / 'containerd.toml'}")
        stack.callback(containerd.stop)
        containerd.start(lambda: succeeds("ctr", *CTR, "version"))
        stack.callback(end_tasks)

    def _start_kubernetes(self, stack: ExitStack) -> None:
        kubeconfig = f"--kubeconfig={self._controlplane.kubeconfig}"
        kubelet = self._component(
            self._programs["kubelet"],
            kubeconfig,
            f"--config={FOLDER / 'kubelet.json'}",
            f"--root-dir={FOLDER / 'kubelet'}",
            f"--cert-dir={FOLDER / 'certificates'}",
            f"--hostname-override={NAME}",
            f"--node-ip={ADDRESS}",
        )
        scheduler = self._component(
            self._programs["kube-scheduler"], kubeconfig, "--leader-elect=false", "--secure-port=0"
        )
        stack.callback(kubelet.stop)
        kubelet.start(self._ready)
        stack.callback(self._end_pods)
        stack.callback(scheduler.stop)  # first, or it would have Pods run in place of those that end
        scheduler.start(lambda: True)

    def _ready(self) -> bool:
        node = self._controlplane.api.find(f"/api/v1/nodes/{NAME}") or {}
        conditions = node.get("status", {}).get("conditions", [])
        return any((found["type"], found["status"]) == ("Ready", "True") for found in conditions)

    def _end_pods(self) -> None:
        """Let the kubelet end all Pods, which cleans up after them; what it doesn't manage, others do."""
        with suppress(KubectlError, WaitTimeoutError):
            self._controlplane.kubectl("delete", "pods", "--all", "-A", "--grace-period=1", "--wait=false")
            wait_until(lambda: not ctr("tasks", "ls", "--quiet"), END_SECONDS, "all containers have ended")

    def _component(self, program: Path, *arguments: str) -> Component:
        return Component([program, *arguments], FOLDER, self._launcher)

    def _remove_leftovers(self) -> None:
        """Of a session that was killed: its containers run on without containerd, and only that can end them."""
        if (FOLDER / "containerd.toml").exists():
            with ExitStack() as stack:
                self._start_containerd(stack)
        unmount()
        remove_network()
        shutil.rmtree(FOLDER)

    def _write_files(self) -> None:
        for folder in ("cni", "logs", "plugins"):
            (FOLDER / folder).mkdir(parents=True)
        (FOLDER / "containerd.toml").write_text(
            CONTAINERD.format(folder=FOLDER, runc=_found("runc"), cni=CNI, pause=PAUSE)
        )
        (FOLDER / "cni" / "bridge.conflist").write_text(json.dumps(_cni_settings()))
        (FOLDER / "kubelet.json").write_text(json.dumps(_kubelet_settings() | self._kubelet))
        (FOLDER / "resolv.conf").touch()


# ---- settings --------------------------------------------------------------------------------------------------------

# Without `restrict_oom_score_adj` runc needs CAP_SYS_RESOURCE, which root in a container often lacks.
CONTAINERD: Final = """\
version = 2
root = "{folder}/containerd"
state = "{folder}/state"
[grpc]
address = "{folder}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "{folder}/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{cni}"
conf_dir = "{folder}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "{runc}"
Root = "{folder}/runc"
"""


def _cni_settings() -> Json:
    addresses = {
        "type": "host-local",
        "dataDir": str(FOLDER / "addresses"),
        "ranges": [[{"subnet": SUBNET, "rangeStart": FIRST_POD}]],
        "routes": [{"dst": SERVICES, "gw": ADDRESS}],
    }
    bridge = {"type": "bridge", "bridge": BRIDGE, "isGateway": False, "ipMasq": False, "ipam": addresses}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]}


def _kubelet_settings() -> Json:
    (port,) = free_ports(1)
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": ADDRESS,
        "port": port,
        "healthzPort": 0,
        "containerRuntimeEndpoint": f"unix://{FOLDER / 'containerd.sock'}",
        # It listens on the bridge only; the API server of the tests has no certificate for it.
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        # What a machine with both versions of cgroups, or in a container itself, has.
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "localStorageCapacityIsolation": False,
        "failSwapOn": False,
        "evictionHard": {"memory.available": "10Mi"},
        "imageGCHighThresholdPercent": 100,
        "podLogsDir": str(FOLDER / "logs"),
        "volumePluginDir": str(FOLDER / "plugins"),
        "resolvConf": str(FOLDER / "resolv.conf"),
    }


def _found(program: str) -> Path:
    path = shutil.which(program)
    if path is None:
        raise FileNotFoundError(missing())
    return Path(path)


if __name__ == "__main__":
    sys.exit(missing() or None)
