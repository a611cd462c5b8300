"""What a test does with a cluster, whichever it is: the one of `controlplane.py` or one that exists already."""

import json
import os
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self, TypeAlias, TypeVar

import httpx

Json: TypeAlias = dict[str, Any]
T = TypeVar("T")

POLL_SECONDS: Final = 0.05
KUBECTL_SECONDS: Final = 120
ANSWER_SECONDS: Final = 30
CRDS_PATH: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


class ApiError(Exception):
    """The API server refused a request.

    Attributes:
        status: The HTTP status.
        reason: Kubernetes' reason, like `AlreadyExists`; empty where the answer isn't a Status.
        message: Kubernetes' message, else the answer's text.
    """

    def __init__(self, method: str, path: str, response: httpx.Response) -> None:
        body: Json = response.json() if "json" in response.headers.get("Content-Type", "") else {}
        self.status: int = response.status_code
        self.reason: str = body.get("reason", "")
        self.message: str = body.get("message", response.text)
        super().__init__(f"{method} {path} answered {self.status}: {self.message}")


class KubectlError(Exception):
    """A kubectl command failed; the message has what it wrote to stderr."""


class WaitTimeoutError(AssertionError):
    """What was waited for didn't come; an AssertionError, as in a test that is what it means."""


def wait_until(probe: Callable[[], T | None], timeout: float, message: str = "") -> T:
    """Call `probe` every 50 ms until it returns something true, and return that.

    Args:
        probe: What to look at; its exceptions end the waiting.
        timeout: Seconds.
        message: What is waited for, for the error.

    Raises:
        WaitTimeoutError: It didn't come; the message shows what the last look saw.
    """
    deadline = time.monotonic() + timeout
    while not (seen := probe()):
        if time.monotonic() >= deadline:
            raise WaitTimeoutError(f"not within {timeout} s: {message or probe}; last seen: {seen!r}")
        time.sleep(POLL_SECONDS)
    return seen


def lasting(seconds: float) -> Iterator[None]:
    """Iterate for so long: for what has to hold all that time, and not only at its end."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(POLL_SECONDS)


class Api:
    """A small JSON client with an administrator's rights; a path is the API server's, query included.

    Every method returns the parsed answer. Where the API server asks for it (429 with `Retry-After`) it is asked again,
    as client-go does: while what it holds of a new kind of object is still being read, for instance.

    Raises:
        ApiError: An answer of 400 or more (every method).
    """

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def get(self, path: str) -> Json:
        return self._request("GET", path)

    def find(self, path: str) -> Json | None:
        """Get what may not be there; None where it isn't."""
        try:
            return self.get(path)
        except ApiError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return None
            raise

    def create(self, path: str, body: Json) -> Json:
        return self._request("POST", path, body)

    def replace(self, path: str, body: Json) -> Json:
        return self._request("PUT", path, body)

    def patch(self, path: str, body: Json | list[Json], content_type: str = "application/merge-patch+json") -> Json:
        return self._request("PATCH", path, body, content_type)

    def delete(self, path: str, body: Json | None = None) -> Json:
        """Delete an object; `body` may be DeleteOptions, for example with preconditions."""
        return self._request("DELETE", path, body)

    def _request(
        self, method: str, path: str, body: Json | list[Json] | None = None, content_type: str = "application/json"
    ) -> Json:
        content, deadline = None if body is None else json.dumps(body), time.monotonic() + ANSWER_SECONDS
        while True:
            response = self._client.request(method, path, content=content, headers={"Content-Type": content_type})
            again = response.headers.get("Retry-After")
            if response.status_code != httpx.codes.TOO_MANY_REQUESTS or not again or time.monotonic() >= deadline:
                break
            time.sleep(float(again))
        if response.is_error:
            raise ApiError(method, path, response)
        answer: Json = response.json()
        return answer


class Cluster:
    """An API server, and an administrator's access to it.

    Attributes:
        folder: For files that live as long as the object.
        kubeconfig: The administrator's.
        server: The API server's URL.
        api: A JSON client with the administrator's rights.
    """

    folder: Path
    kubeconfig: Path
    server: str
    api: Api

    def __init__(self, kubectl: Path) -> None:
        self._kubectl = kubectl
        self._exit = ExitStack()

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def kubectl(self, *args: str, input: str | None = None, check: bool = True) -> str:  # noqa: A002 - as subprocess.run
        """Run kubectl as the administrator and return its stdout.

        Raises:
            KubectlError: It failed, unless `check` is false.
        """
        done = subprocess.run(
            self.command(*args),
            input=input,
            capture_output=True,
            text=True,
            timeout=KUBECTL_SECONDS,
            check=False,
            env=os.environ | {"KUBERC": "off"},  # no preferences of the user's
        )
        if check and done.returncode:
            raise KubectlError(f"kubectl {' '.join(args)} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def command(self, *args: str) -> list[str]:
        """The command line that runs kubectl as the administrator."""
        return [str(self._kubectl), f"--kubeconfig={self.kubeconfig}", f"--cache-dir={self.folder / 'cache'}", *args]

    def kubeconfig_for(self, namespace: str, service_account: str) -> Path:
        """Write a kubeconfig with the rights of a ServiceAccount, and its namespace as the default."""
        token = self.kubectl("create", "token", service_account, f"--namespace={namespace}", "--duration=24h").strip()
        config: Json = json.loads(self.kubectl("config", "view", "--raw", "--flatten", "--minify", "--output=json"))
        config["users"] = [{"name": service_account, "user": {"token": token}}]
        config["contexts"][0]["context"] |= {"user": service_account, "namespace": namespace}
        return self._write_private(f"{namespace}.{service_account}.kubeconfig", json.dumps(config))

    def create_namespace(self, prefix: str = "t") -> str:
        """Create a namespace with a unique name, and wait for what a Pod in it would need."""
        name = f"{prefix}-{uuid.uuid4().hex[:8]}"
        self.api.create("/api/v1/namespaces", {"metadata": {"name": name}})
        for path in ("serviceaccounts/default", "configmaps/kube-root-ca.crt"):
            self._wait_for(f"/api/v1/namespaces/{name}/{path}")
        return name

    def delete_namespace(self, name: str) -> None:
        """Begin to delete a namespace, without waiting for the end."""
        self.api.delete(f"/api/v1/namespaces/{name}")

    def apply_crds(self, folder: Path) -> None:
        """Apply every CustomResourceDefinition of a folder, and wait until its resources are served."""
        files = [f"--filename={path}" for path in sorted(folder.glob("*.yaml"))]
        if not files:
            return
        self.kubectl("apply", "--server-side", "--force-conflicts", "--field-manager=tests", *files)
        self.kubectl("wait", "--for=condition=Established", "--timeout=60s", *files)
        for name in self.kubectl("get", "--output=name", *files).split():
            spec = self.api.get(f"{CRDS_PATH}/{name.partition('/')[2]}")["spec"]
            for version in spec["versions"]:
                if version["served"]:
                    self._wait_for(f"/apis/{spec['group']}/{version['name']}/{spec['names']['plural']}?limit=1")

    def _wait_for(self, path: str) -> None:
        wait_until(lambda: self.api.find(path), ANSWER_SECONDS, f"{path} is there")

    def _write_private(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text)
        return path


class ExistingCluster(Cluster):
    """The cluster that `KUBECONFIG` names; a context manager.

    The JSON client goes through `kubectl proxy` on a socket in a private folder, as only kubectl knows every way
    to authenticate that a kubeconfig may name.
    """

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="asset-token-cluster-")))
            config = self._current_context()
            self.kubeconfig = self._write_private("admin.kubeconfig", config)
            self.server = json.loads(config)["clusters"][0]["cluster"]["server"]
            self.api = Api(self._through_proxy(stack))
            self.kubectl("version")  # says more than the proxy would where the cluster can't be reached
            self._exit = stack.pop_all()
        return self

    def _current_context(self) -> str:
        if not os.environ.get("KUBECONFIG"):
            raise KubectlError("KUBECONFIG isn't set, and the tests don't touch the default one's cluster")
        command = [str(self._kubectl), "config", "view", "--raw", "--flatten", "--minify", "--output=json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise KubectlError(f"KUBECONFIG names no cluster: {done.stderr.strip()}")
        return done.stdout

    def _through_proxy(self, stack: ExitStack) -> httpx.Client:
        path = self.folder / "api.sock"
        command = [str(self._kubectl), f"--kubeconfig={self.kubeconfig}", "proxy", f"--unix-socket={path}"]
        proxy = stack.enter_context(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        stack.callback(proxy.terminate)
        wait_until(lambda: path.exists() or proxy.poll() is not None, ANSWER_SECONDS, "kubectl proxy listens")
        transport = httpx.HTTPTransport(uds=str(path))
        return stack.enter_context(
            httpx.Client(transport=transport, base_url="http://localhost", timeout=ANSWER_SECONDS)
        )
