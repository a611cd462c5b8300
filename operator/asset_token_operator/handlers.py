"""What kopf sees in the cluster goes into indices and wakes the scheduler; nothing else happens here.

The only importer of kopf.

Only kopf's low-level handlers are used: its timers and daemons put a finalizer on every object, and its create and
update handlers an annotation (which for a Secret would hold a copy of its data).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import TYPE_CHECKING, Any, Final

import kopf

from asset_token_operator.manifests import owner_name
from asset_token_operator.model import (
    GROUP,
    MANAGED_BY_LABEL,
    OPERATOR,
    PLURAL,
    VERSION,
    Key,
    SpecError,
    parse_asset_token,
    parse_secret,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from asset_token_operator.api_server import ApiServer
    from asset_token_operator.model import AssetToken, SecretState
    from asset_token_operator.reconciler import Caches

logger = logging.getLogger(__name__)

WATCH_AGAIN_SECONDS: Final = 2.0
WATCH_SECONDS: Final = 300
"""How long one watch request lasts, so that one that went silent ends."""


class ForEver:
    """Seconds between two tries to reach the API server.

    kopf's own give up after a minute, which ends the operator, and grow to 21 s, which is how late it would be after an
    outage.

    Args:
        beat: Called before each try: kopf lists or watches anew every `WATCH_SECONDS` at least.
    """

    def __init__(self, beat: Callable[[], None]) -> None:
        self._beat = beat

    def __iter__(self) -> Iterator[float]:
        """For one call, which asks for the first before it is sent."""
        for seconds in itertools.chain((0.5, 1.0), itertools.repeat(2.0)):
            self._beat()
            yield seconds


def kopf_settings(beat: Callable[[], None]) -> kopf.OperatorSettings:
    """How kopf shall behave: watch what is ours, write nothing, need no more rights than that."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.networking.trust_env = True
    settings.networking.error_backoffs = ForEver(beat)
    settings.watching.server_timeout = WATCH_SECONDS
    settings.watching.chunk_size = 500
    settings.watching.label_selectors["", "v1", "secrets"] = f"{MANAGED_BY_LABEL}={OPERATOR}"
    return settings


async def watch_cluster(
    registry: kopf.OperatorRegistry,
    settings: kopf.OperatorSettings,
    namespaces: Sequence[str],
    began: Callable[[], None],
) -> None:
    """Let kopf watch until this is cancelled. It ends at some errors, and is then begun anew.

    Args:
        registry: The handlers.
        settings: How it shall behave.
        namespaces: What it watches; none means all.
        began: Called when it has begun, by when it has taken the signals.
    """
    while True:
        others = asyncio.all_tasks()
        tasks = await kopf.spawn_tasks(
            registry=registry,
            settings=settings,
            standalone=True,
            clusterwide=not namespaces,
            namespaces=namespaces,
        )
        began()
        try:
            await kopf.run_tasks(tasks, ignored=others)
        except (Exception, asyncio.CancelledError) as error:
            if _is_cancelled():
                raise
            logger.warning("the watch of AssetTokens broke (%s) and is begun anew", type(error).__name__)
        await asyncio.sleep(WATCH_AGAIN_SECONDS)


def _is_cancelled() -> bool:
    """Whether the present task itself shall end, and not only one that it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def build_registry(api: ApiServer, wake: Callable[[Key], None], caches: Caches) -> kopf.OperatorRegistry:
    """Register all handlers.

    Args:
        api: Whose connection to the API server kopf shall use.
        wake: Called with each AssetToken that something happened to.
        caches: Where the indices are put, before anything is woken.
    """
    registry = kopf.OperatorRegistry()
    _connect(registry, api)
    _index(registry)
    _watch(registry, wake, caches)
    return registry


def _connect(registry: kopf.OperatorRegistry, api: ApiServer) -> None:
    @kopf.on.login(registry=registry)
    async def login(**_: object) -> kopf.ConnectionInfo:
        connection = await api.connection()
        return kopf.ConnectionInfo(
            server=connection.server,
            ca_path=connection.ca_path,
            insecure=not connection.verify,
            scheme=connection.scheme,
            token=connection.token,
            certificate_path=connection.certificate_path,
            private_key_path=connection.key_path,
            trust_env=True,
        )


def _index(registry: kopf.OperatorRegistry) -> None:
    @kopf.index(GROUP, VERSION, PLURAL, id="tokens", registry=registry)
    async def tokens(body: kopf.Body, **_: object) -> Mapping[Key, AssetToken]:
        return {token.key: token for token in _readable(body)}

    @kopf.index(GROUP, VERSION, PLURAL, id="claims", registry=registry)
    async def claims(body: kopf.Body, **_: object) -> Mapping[Key, AssetToken]:
        return {token.secret_key: token for token in _readable(body)}

    @kopf.index(GROUP, VERSION, PLURAL, id="users", registry=registry)
    async def users(body: kopf.Body, **_: object) -> Mapping[Key, AssetToken]:
        return {token.credentials_key: token for token in _readable(body)}

    @kopf.index("", "v1", "secrets", id="secrets", registry=registry)
    async def secrets(body: kopf.Body, **_: object) -> Mapping[Key, SecretState]:
        secret = parse_secret(body)
        return {secret.key: secret}

    @kopf.index("", "v1", "secrets", id="owned", registry=registry)
    async def owned(body: kopf.Body, **_: object) -> Mapping[Key, SecretState]:
        secret = parse_secret(body)
        owner = owner_name(secret)
        return {Key(secret.key.namespace, owner): secret} if owner else {}


def _watch(registry: kopf.OperatorRegistry, wake: Callable[[Key], None], caches: Caches) -> None:
    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def asset_token_changed(body: kopf.Body, **given: Any) -> None:  # noqa: ANN401 - the indices are in it
        _adopt(caches, given)
        for token in _readable(body):
            wake(token.key)
            for rival in caches.claims.get(token.secret_key, ()):
                wake(rival.key)

    @kopf.on.event("", "v1", "secrets", registry=registry)
    async def secret_changed(body: kopf.Body, **given: Any) -> None:  # noqa: ANN401 - the indices are in it
        _adopt(caches, given)
        secret = parse_secret(body)
        for claimant in caches.concerned(secret.key):
            wake(claimant)
        owner = owner_name(secret)
        if owner is not None:
            wake(Key(secret.key.namespace, owner))


def _adopt(caches: Caches, given: Mapping[str, Any]) -> None:
    """Take kopf's indices over: when it calls for an event all of them are filled, also after it was begun anew."""
    caches.tokens, caches.claims, caches.users = given["tokens"], given["claims"], given["users"]
    caches.secrets, caches.owned = given["secrets"], given["owned"]
    caches.filled = True


def _readable(body: Mapping[str, Any]) -> Iterable[AssetToken]:
    try:
        return [parse_asset_token(body)]
    except SpecError as error:
        metadata = body["metadata"]
        logger.error(  # noqa: TRY400 - the sentence says it; a traceback may quote the spec
            "%s/%s can't be read (%s): the installed CRD is of another version than the operator.",
            metadata["namespace"],
            metadata["name"],
            error,
        )
        return []
