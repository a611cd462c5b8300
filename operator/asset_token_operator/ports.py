"""What the operator's core needs of the world: the real adapters have it, and so do the fakes of tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from datetime import datetime

    from asset_token_operator.answers import Reply
    from asset_token_operator.model import AssetToken, Credentials, CredentialsRef, Key, SecretState, Spec, Target
    from asset_token_operator.parsing import SecretEvent
    from asset_token_operator.rollouts import Workload
    from asset_token_operator.status import Status
    from asset_token_operator.transitions import Event


T = TypeVar("T")


class LeaseStore(Protocol):
    """Where the Lease is read and written."""

    async def call(  # noqa: PLR0913 - what a request consists of
        self,
        method: str,
        path: str,
        read: Callable[[dict[str, Any]], T],
        /,
        *,
        body: Mapping[str, Any] | None,
        content_type: str,
        waits: bool,
    ) -> T:
        """Make a call; `read` makes of the answer what is wanted of it."""


class CredentialsStore(Protocol):
    """Where credentials are read; `kube.KubeClient` says how each call fails, here and below."""

    async def read_credentials(self, namespace: str, ref: CredentialsRef, /) -> Credentials:
        """The credentials of that Secret."""


class SecretStore(Protocol):
    """Where Secrets are read and written, and status."""

    async def read_secret(self, key: Key, /) -> SecretState | None:
        """The Secret, whole; None where there is none."""

    async def apply_secret(self, manifest: Mapping[str, Any], over: SecretState | None, /) -> SecretState:
        """Write a Secret, over the one that was seen."""

    async def delete_secret(self, secret: SecretState, /) -> None:
        """Delete exactly that Secret."""

    async def confirm_asset_token(self, token: AssetToken, /) -> None:
        """Ask whether an AssetToken is still there."""

    async def write_status(self, token: AssetToken, status: Status, /) -> AssetToken:
        """Write an AssetToken's status."""


class WorkloadStore(Protocol):
    """Where workloads are looked at and restarted."""

    async def read_workload(self, namespace: str, target: Target, /) -> Workload:
        """When it was created and restarted last."""

    async def restart_workload(self, namespace: str, target: Target, seen: Workload, stamp: datetime, /) -> None:
        """Have its Pods replaced, unless it has changed since it was seen."""


class AssetTokenSource(Protocol):
    """Where it is told which AssetTokens there are."""

    def fingerprint(self) -> str:
        """Differs where the API server is reached another way than before."""

    async def serves_asset_tokens(self) -> bool:
        """Whether the cluster knows AssetTokens."""

    async def list_asset_tokens(self, namespace: str, selector: str | None, /) -> tuple[Mapping[Key, int], int]:
        """Which there are, and in which resource version; and the list's own."""

    async def version_of_asset_tokens(self, namespace: str, selector: str | None, /) -> int:
        """The resource version that a list of them would have."""


class SecretSource(Protocol):
    """Where it is told which Secrets there are."""

    def list_secrets(self, namespace: str, /) -> AsyncIterator[tuple[list[SecretState], int]]:
        """Their metadata, page by page, each with the version that the list has."""

    def watch_secrets(self, namespace: str, since: int, /) -> AsyncIterator[SecretEvent]:
        """What happens to them since that version."""

    async def version_of_secrets(self, namespace: str, /) -> int:
        """The resource version that a list of them would have."""


class EventSink(Protocol):
    """Where Kubernetes events are posted."""

    async def create_event(self, token: AssetToken, event: Event, now: datetime, instance: str, /) -> None:
        """Post an event about an AssetToken."""


class EventQueue(Protocol):
    """Where events are left that nothing waits for."""

    def post(self, token: AssetToken, event: Event, /) -> None:
        """Post an event about an AssetToken, soon."""


class TokenEndpoint(Protocol):
    """Asset."""

    async def request_token(self, spec: Spec, credentials: Credentials, /) -> Reply:
        """Request a token."""
