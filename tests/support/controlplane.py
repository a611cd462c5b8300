"""A real control plane without a container engine: etcd, the API server and the controller-manager as processes.

`ControlPlane` starts one in some three seconds, with everything on loopback and in a temporary folder.
"""

import json
import secrets
import shlex
import shutil
import signal
import ssl
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Self

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.audit import POLICY, AuditEvent, AuditLog
from tests.support.cluster import ANSWER_SECONDS, Api, Cluster, Json, wait_until
from tests.support.component import Component, StartError, free_ports
from tests.support.gobuild import Binaries, BuildError, binaries


class ControlPlane(Cluster):
    """A control plane of one's own; a context manager.

    It has RBAC, garbage collection, namespaces and ServiceAccounts, but no nodes. It ends with the process that
    started it, however that ends.

    Args:
        programs: Where they are; found or built where not given.
        apiserver_args: More arguments for the API server, for example feature gates.
        etcd_args: More arguments for etcd.
        audited: Whether the API server writes an audit log, which costs it time; without one, `audit` can't be asked.

    Attributes:
        certificate: The API server's own, which is its authority too.

    Raises:
        BuildError: The programs can't be had.
        StartError: A component didn't start (on entry).
    """

    def __init__(
        self,
        programs: Binaries | None = None,
        apiserver_args: Sequence[str] = (),
        etcd_args: Sequence[str] = (),
        *,
        audited: bool = True,
    ) -> None:
        self._programs = programs or binaries()
        self._apiserver_args = apiserver_args
        self._etcd_args = etcd_args
        self._audited = audited
        super().__init__(self._programs.kubectl)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="asset-token-controlplane-")))
            self._etcd_port, peer_port, port = free_ports(3)
            self.server = f"https://127.0.0.1:{port}"
            self._write_files()
            # A thread that lives as long as the programs, which the one that calls this may not.
            launcher = stack.enter_context(ThreadPoolExecutor(1, "launcher"))
            commands = (self._etcd_command(peer_port), self._apiserver_command(port), self._controllers_command())
            self._etcd, self._apiserver, self._controllers = self._components = [
                Component(command, self.folder, launcher) for command in commands
            ]
            for component in self._components:
                stack.callback(component.stop)  # first those that depend on the others
            self._etcd.start(self._etcd_ready)
            self.start_apiserver()
            self.api = Api(stack.enter_context(self._client()))
            self._start_controllers()
            self._exit = stack.pop_all()
        return self

    def stop_apiserver(self) -> None:
        """Stop the API server; no process of it is left when this returns."""
        self._apiserver.stop()
        self._audit_log.give_up_on_open_requests()

    def start_apiserver(self) -> None:
        """Start the API server again, with the same address, certificate, data and audit log."""
        self._apiserver.start(self._apiserver_ready)

    def back_up(self) -> Path:
        """Back up what etcd holds; it and the API server are down for that moment."""
        backup = Path(tempfile.mkdtemp(dir=self.folder)) / "etcd"
        with self._no_etcd():
            shutil.copytree(self.folder / "etcd", backup)
        return backup

    def restore(self, backup: Path) -> None:
        """Let etcd hold what it held then: resource versions go back, and all watches break."""
        with self._no_etcd():
            shutil.rmtree(self.folder / "etcd")
            shutil.copytree(backup, self.folder / "etcd")

    @contextmanager
    def _no_etcd(self) -> Iterator[None]:
        self._controllers.stop()
        self.stop_apiserver()
        self._etcd.stop()
        yield
        self._etcd.start(self._etcd_ready)
        self.start_apiserver()
        self._start_controllers()

    def renew_certificate(self) -> None:
        """Give the API server another certificate, which is its new authority too, and start it anew.

        The administrator's access goes on; a copy of the old certificate is of no use any more.
        """
        self._controllers.stop()
        self.stop_apiserver()
        self.certificate.unlink()
        self.certificate.with_suffix(".key").unlink()
        self.start_apiserver()
        self.api = Api(self._exit.enter_context(self._client()))
        self._start_controllers()

    @contextmanager
    def paused_apiserver(self) -> Iterator[None]:
        """Within this context, the API server accepts connections but never answers."""
        self._apiserver.pause()
        try:
            yield
        finally:
            self._apiserver.resume()

    def apply_crds(self, folder: Path) -> None:
        """Apply CRDs as to any cluster, and make the garbage collector know them at once.

        It looks for new resources when it starts, and then only every 30 seconds.
        """
        super().apply_crds(folder)
        self.restart_controllers()

    def restart_controllers(self) -> None:
        """Have the controllers at work when this returns: after an outage they take up to a minute to come back."""
        self._controllers.stop()
        self._start_controllers()

    def audit(self, namespace: str | None = None, since: datetime | None = None) -> list[AuditEvent]:
        """List the requests received before this call, once each, in the order they were received.

        Args:
            namespace: Only requests that name this namespace.
            since: Only requests received then or later.

        Raises:
            RuntimeError: There is no audit log.
        """
        if not self._audited:
            raise RuntimeError("This control plane keeps no audit log")
        marker = uuid.uuid4().hex
        self.api.get(f"/version?marker={marker}")
        message = "the audit log has the answers to all earlier requests"
        wait_until(lambda: self._audit_log.before(marker) is not None, ANSWER_SECONDS, message)
        return [
            event
            for event in self._audit_log.before(marker) or ()
            if namespace in (None, event.namespace) and (since is None or event.at >= since)
        ]

    def pids(self) -> dict[str, int]:
        """The components' processes, by name; only those that run."""
        return {component.name: component.pid for component in self._components if component.pid is not None}

    def ended(self) -> list[str]:
        """Name the components that ended by themselves."""
        return [component.name for component in self._components if component.ended()]

    def _write_files(self) -> None:
        self._audit_log = AuditLog(self.folder / "audit.log")
        self._token = secrets.token_urlsafe()
        self.certificate = self.folder / "certs" / "apiserver.crt"  # the API server makes it, and its authority
        key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        self._signing_key = self._write_private("service-accounts.key", key.decode())
        self._tokens = self._write_private("tokens.csv", f"{self._token},admin,admin,system:masters\n")
        self._policy = self._write_private("audit-policy.json", json.dumps(POLICY))
        self.kubeconfig = self._write_private("admin.kubeconfig", json.dumps(self._admin_kubeconfig()))

    def _admin_kubeconfig(self) -> Json:
        cluster = {"server": self.server, "certificate-authority": str(self.certificate)}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "controlplane", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": self._token}}],
            "contexts": [{"name": "controlplane", "context": {"cluster": "controlplane", "user": "admin"}}],
            "current-context": "controlplane",
        }

    def _etcd_command(self, peer_port: int) -> list[str | Path]:
        client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{peer_port}"
        return [
            self._programs.etcd,
            "--unsafe-no-fsync",
            "--heartbeat-interval=50",  # the only member waits an election's time for others, else a second
            "--election-timeout=250",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            *self._etcd_args,
        ]

    def _apiserver_command(self, port: int) -> list[str | Path]:
        return [
            self._programs.apiserver,
            f"--etcd-servers={self.etcd_url}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={self.certificate.parent}",
            "--authorization-mode=RBAC",
            f"--token-auth-file={self._tokens}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self._signing_key}",
            f"--service-account-signing-key-file={self._signing_key}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",  # loopback can't be an endpoint, and no Pod will look for one
            *(self._audit_arguments() if self._audited else ()),
            *self._apiserver_args,
        ]

    def _audit_arguments(self) -> list[str]:
        return [
            f"--audit-policy-file={self._policy}",
            f"--audit-log-path={self.folder / 'audit.log'}",
            "--audit-log-mode=blocking",
            "--audit-log-maxsize=0",  # one file, never rotated
        ]

    def _controllers_command(self) -> list[str | Path]:
        return [
            self._programs.controller_manager,
            f"--kubeconfig={self.kubeconfig}",
            "--kube-api-qps=1000",  # the default, 20, makes its start take five seconds
            "--kube-api-burst=1000",
            "--use-service-account-credentials",
            f"--service-account-private-key-file={self._signing_key}",
            f"--root-ca-file={self.certificate}",
            "--leader-elect=false",
            "--secure-port=0",
        ]

    @property
    def etcd_url(self) -> str:
        """Where etcd listens."""
        return f"http://127.0.0.1:{self._etcd_port}"

    def _etcd_ready(self) -> bool:
        try:
            return httpx.get(f"{self.etcd_url}/health", trust_env=False).is_success
        except httpx.TransportError:
            return False

    def _apiserver_ready(self) -> bool:
        if not self.certificate.with_suffix(".key").exists():  # written after the certificate
            return False
        with self._client() as client:
            try:
                return client.get("/readyz").is_success
            except httpx.TransportError:
                return False

    def _start_controllers(self) -> None:
        """Start the controllers; they are at work once a new namespace gets what each one gets."""
        body = {"metadata": {"generateName": "controllers-"}}
        namespace = f"/api/v1/namespaces/{self.api.create('/api/v1/namespaces', body)['metadata']['name']}"
        self._controllers.start(lambda: self.api.find(f"{namespace}/serviceaccounts/default"))
        self.api.delete(namespace)

    def _client(self) -> httpx.Client:
        return httpx.Client(
            base_url=self.server,
            verify=ssl.create_default_context(cafile=self.certificate),
            headers={"Authorization": f"Bearer {self._token}"},
            timeout=ANSWER_SECONDS,
            trust_env=False,  # no proxy of the user's is a way to loopback
        )


def _run() -> None:
    """Run a control plane until Ctrl-C or SIGTERM."""
    asked_to_stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked_to_stop.set())
    programs = binaries()
    with ControlPlane(programs) as controlplane:
        sys.stdout.write(f"export KUBECONFIG={shlex.quote(str(controlplane.kubeconfig))}\n{programs.kubectl}\n")
        sys.stdout.flush()
        while not asked_to_stop.wait(1):
            if ended := controlplane.ended():
                sys.exit(f"{', '.join(ended)} ended by itself")


def main() -> None:
    """Run a control plane until Ctrl-C: the entry point of `python -m tests.support.controlplane`."""
    try:
        _run()
    except (BuildError, StartError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
