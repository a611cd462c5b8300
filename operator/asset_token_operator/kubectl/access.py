"""How to reach the API server, and as whom, for whoever calls the tool: by a kubeconfig, in a Pod without one as it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from asset_token_operator.kubeconfig_files import Context, KubeconfigError, listed, paths_of, read
from asset_token_operator.kubectl.problems import Problem, cause
from asset_token_operator.proxies import ProxyError
from asset_token_operator.rest_config import LoginProgram, RestConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

LOGIN_SECONDS: Final = 60
SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def load(kubeconfig: str | None, context: str | None) -> RestConfig:
    """Read the kubeconfig: the one given, else those of `KUBECONFIG`, else the user's; in a Pod without one its own.

    Raises:
        Problem: None of them can be used.
    """
    try:
        access = _load(_context(kubeconfig, context))
    except KubeconfigError as error:
        raise Problem(str(error)) from None
    except ProxyError as error:
        raise Problem(f"The API server can't be reached: {error}") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        why = cause(error, "they make no sense")
        raise Problem(f"The kubeconfig's address or certificates can't be used ({why}): correct them.") from None
    if access.proxy is not None and not access.proxy.url.startswith("http://"):
        raise Problem("A proxy that is spoken to by https is not supported here: name one by http://.")
    return access


def _context(kubeconfig: str | None, name: str | None) -> Context:
    paths = paths_of(kubeconfig)
    if any(path.is_file() for path in paths):
        return read(paths).choose(name, "--context")
    if kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ:
        return _in_cluster()
    raise Problem(f"There is no kubeconfig at {listed(paths)}: set KUBECONFIG or --kubeconfig.")


def _in_cluster() -> Context:
    """As the Pod's service account."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    cluster = {"server": server, "certificate-authority": str(SERVICE_ACCOUNT / "ca.crt")}
    try:
        namespace = (SERVICE_ACCOUNT / "namespace").read_text().strip() or "default"
    except OSError:
        namespace = "default"
    return Context("in-cluster", cluster, {"tokenFile": str(SERVICE_ACCOUNT / "token")}, namespace)


def _load(context: Context) -> RestConfig:
    program = LoginProgram.of(context)
    if program is None and context.user.get("auth-provider") is not None:
        raise Problem("The kubeconfig logs in by an auth-provider, which is not supported here: use an exec plugin.")
    return RestConfig.of(context, {} if program is None else _run(program))


def _run(program: LoginProgram) -> Mapping[str, str]:
    """Let a login program issue something; it may ask the user, at the terminal."""
    try:
        done = subprocess.run(  # noqa: S603 - the kubeconfig's own program, as kubectl runs it
            program.arguments, env=program.environment, stdout=subprocess.PIPE, timeout=LOGIN_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise program.failure(f"it took longer than {LOGIN_SECONDS} s") from None
    except (OSError, ValueError) as error:
        raise program.failure(cause(error)) from None
    return program.issued(done.returncode, done.stdout)
