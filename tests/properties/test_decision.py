"""The whole loop against a world in which anything may happen in any order, with time that is only pretended.

Hypothesis makes up the history: failures, short lifetimes, deletions, tampering, spec changes, rivals, restarts, clocks
that are set, watches that lag. After each step the operator runs as its scheduler would, and the contract's guarantees
are checked where they could be broken: at each request, at each write and after each run.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from pydantic import SecretStr

from asset_token_operator.answers import Reply, gets_through
from asset_token_operator.errors import (
    AssetUnavailableError,
    BrokenAnswerError,
    KubeRefusedError,
    KubeUnavailableError,
    OperatorError,
)
from asset_token_operator.manifests import credentials_fingerprint, is_owned, proof_key, prove, stored_token
from asset_token_operator.model import (
    Credentials,
    DeletionPolicy,
    Environment,
    IssuedToken,
    Key,
    SecretSpec,
    SecretState,
    Spec,
    digest,
)
from asset_token_operator.reasons import Reason
from asset_token_operator.renewal import renewal_time
from asset_token_operator.status import NOT_SEEN_YET
from tests.support.builders import (
    CREDENTIALS,
    NOW,
    a_refusal,
    a_reply,
    a_secret,
    a_spec,
    an_asset_token,
    data_of,
    text_of,
)
from tests.support.fakes import CREDENTIALS_KEY, FOREIGN_UID, World, drive

SECOND: Final = timedelta(seconds=1)
MINUTE: Final = timedelta(minutes=1)
HOUR: Final = timedelta(hours=1)

SLOWEST_PROBE: Final = 15 * MINUTE
WRITE_WINDOW: Final = 10 * MINUTE
MOST_WRITES: Final = 11
"""Of the same content in ten minutes: six at once, then 10, 20, 40, 80 and 160 s apart."""

RIVAL: Final = Key("shop", "rival")
OTHER_CREDENTIALS: Final = replace(CREDENTIALS, client_secret=SecretStr("canary-rotated"))

ASSET_FAULTS: Final[list[OperatorError | Reply]] = [
    AssetUnavailableError("no answer"),
    BrokenAnswerError("no end"),
    a_reply(200),
    a_refusal(503),
    a_refusal(429),
    a_refusal(429, retry_after="90"),
    a_refusal(400, "invalid_scope"),
    a_refusal(401, "invalid_client"),
]
KUBE_ERRORS: Final[list[OperatorError]] = [
    KubeUnavailableError("no answer"),
    KubeRefusedError("forbidden", 403),
]
KUBE_METHODS: Final = [
    "read_secret",
    "read_credentials",
    "apply_secret",
    "write_status",
    "delete_secret",
]
times = st.sampled_from([1, 2, 5, 1000])


class AnyHistory(RuleBasedStateMachine):
    """One AssetToken, what happens to it, and what must be true whatever does."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.world.asset.before_request = self.check_request
        self.world.kube.before_write = self.check_write
        self.lags = False
        self.clock_was_set = False
        self.credentials = CREDENTIALS
        self.forget()

    def forget(self) -> None:
        """What a restart makes the operator forget, these checks forget too."""
        self.cause: str | None = None
        self.requests: list[datetime] = []
        self.content: str | None = None
        self.writes: list[datetime] = []
        self.failing_write: tuple[datetime, str | None] | None = None
        self.issued: IssuedToken | None = None

    # What happens

    @initialize(
        spec=st.builds(
            a_spec,
            secret=st.builds(
                SecretSpec, st.just("ledger-writer-token"), deletion_policy=st.sampled_from(DeletionPolicy)
            ),
            renew_before=st.sampled_from([None, MINUTE, 2 * HOUR]),
        ),
        skew=st.sampled_from([timedelta(), -5 * MINUTE, 5 * MINUTE]),
    )
    def create(self, spec: Spec, skew: timedelta) -> None:
        self.again: datetime | None = None
        self.world.asset.skew = skew
        self.world.add(an_asset_token(spec))
        self.run()

    @rule(by=st.sampled_from([SECOND, 10 * SECOND, MINUTE, 10 * MINUTE, HOUR]))
    def time_passes(self, by: timedelta) -> None:
        self.run_until(self.world.clock.now() + by)

    @rule(by=st.sampled_from([MINUTE, HOUR, timedelta(days=1)]))
    def the_machine_is_suspended(self, by: timedelta) -> None:
        self.world.pass_time(by)
        self.run_until(self.world.clock.now())

    @rule(by=st.sampled_from([-HOUR, -5 * MINUTE, -30 * SECOND, 30 * SECOND, 5 * MINUTE, HOUR]))
    def somebody_sets_the_clock(self, by: timedelta) -> None:
        """Asset's clock goes on as it was. What happened how long ago can't be told any more."""
        assert self.world.asset.skew is not None
        drive(self.world.clock.set(self.world.clock.now() + by))
        self.world.asset.skew -= by
        self.requests, self.writes, self.failing_write = [], [], None
        self.clock_was_set = True
        self.happened()

    @rule(fault=st.sampled_from(ASSET_FAULTS), number=times)
    def asset_fails(self, fault: OperatorError | Reply, number: int) -> None:
        self.world.asset.faults.fail("request_token", fault, number)

    @rule(expires_in=st.sampled_from([1, 2, 30, 90, 600, 3600, 86400, None, 0, -5, "soon"]))
    def asset_issues_tokens_of_another_lifetime(self, expires_in: object) -> None:
        self.world.asset.expires_in = expires_in

    @rule(remaining=st.sampled_from(["0", "1", "300"]), window=st.sampled_from([SECOND, 20 * SECOND, MINUTE]))
    def asset_tells_of_its_limit(self, remaining: str, window: timedelta) -> None:
        reset = str(int((self.asset_now() + window).timestamp()))
        self.world.asset.headers = {
            "x_ratelimit_limit": "300",
            "x_ratelimit_remaining": remaining,
            "x_ratelimit_reset": reset,
        }

    @rule(method=st.sampled_from(KUBE_METHODS), error=st.sampled_from(KUBE_ERRORS), number=times)
    def the_cluster_fails(self, method: str, error: OperatorError, number: int) -> None:
        self.world.kube.faults.fail(method, error, number)

    @rule()
    def all_works_again(self) -> None:
        self.world.asset.faults.mend()
        self.world.kube.faults.mend()

    @rule(there=st.booleans())
    def the_credentials_come_and_go(self, *, there: bool) -> None:
        if there:
            self.world.kube.put_credentials(self.credentials)
        else:
            self.world.kube.credentials.clear()
        self.happened()

    @rule(credentials=st.sampled_from([CREDENTIALS, OTHER_CREDENTIALS]))
    def the_credentials_are_rotated_or_only_labelled(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self.world.kube.put_credentials(credentials)
        self.happened()

    @rule()
    def the_secret_is_deleted(self) -> None:
        self.world.kube.secrets.pop(self.world.token().secret_key, None)
        self.happened()

    @rule(number=st.integers(2, 15))
    def something_deletes_the_secret_again_and_again(self, number: int) -> None:
        for _ in range(number):
            self.world.kube.secrets.pop(self.world.token().secret_key, None)
            self.happened()

    @precondition(lambda self: self.own_secret() is not None)
    @rule(
        key=st.sampled_from(["access_token", "authorization", "expires_at", "environment"]),
        value=st.sampled_from(["", "eA==", "no base64"]),
    )
    def the_secrets_data_is_tampered_with(self, key: str, value: str) -> None:
        secret = self.own_secret()
        assert secret is not None
        self.world.kube.put_secret(replace(secret, data={**data_of(secret), key: value}))
        self.happened()

    @precondition(lambda self: self.own_secret() is not None and self.own_secret().controller_uid is not None)
    @rule(wanted=st.sampled_from(["labels", "annotations"]))
    def the_secrets_metadata_is_wiped(self, wanted: str) -> None:
        secret = self.own_secret()
        assert secret is not None
        change: dict[str, Any] = {wanted: {}}
        self.world.kube.put_secret(replace(secret, **change))
        self.happened()

    @precondition(lambda self: self.world.secret() is None)
    @rule(kind=st.sampled_from(["Opaque", "auth.getasset.com/token"]))
    def somebody_takes_the_secrets_name(self, kind: str) -> None:
        foreign = a_secret(self.world.token(), type=kind, uid=FOREIGN_UID, controller_uid="someone")
        self.world.kube.put_secret(foreign)
        self.happened()

    @rule()
    def foreign_secrets_go(self) -> None:
        self.remove_foreign()
        self.happened()

    @rule(scopes=st.sampled_from([("ledger:read",), ("ledger:create",), ()]))
    def the_scopes_change(self, scopes: tuple[str, ...]) -> None:
        self.change(scopes=scopes)

    @rule(lifetime=st.sampled_from([None, MINUTE, HOUR]))
    def another_lifetime_is_asked_for(self, lifetime: timedelta | None) -> None:
        self.change(lifetime=lifetime)

    @rule(created=st.sampled_from([NOW - timedelta(days=2), NOW]))
    def another_asset_token_names_the_same_secret(self, created: datetime) -> None:
        """An older one, or a younger one, which nobody serves here."""
        self.world.add(an_asset_token(self.world.token().spec, key=RIVAL, uid="rival", created=created))
        self.happened()

    @rule()
    def the_other_asset_token_goes(self) -> None:
        self.world.kube.asset_tokens.pop(RIVAL, None)
        self.happened()

    @rule(suspend=st.booleans())
    def it_is_suspended_or_resumed(self, *, suspend: bool) -> None:
        self.change(suspend=suspend)

    @rule(name=st.sampled_from(["ledger-writer-token", "new-name"]), policy=st.sampled_from(DeletionPolicy))
    def the_secret_is_named_otherwise(self, name: str, policy: DeletionPolicy) -> None:
        self.change(secret=SecretSpec(name, deletion_policy=policy))

    @rule(renew_request=st.sampled_from(["1", "2", None]))
    def somebody_asks_to_renew_now(self, renew_request: str | None) -> None:
        self.world.kube.put_token(replace(self.world.token(), renew_request=renew_request))
        self.happened()

    @rule()
    def the_status_is_lost(self) -> None:
        self.world.kube.put_token(replace(self.world.token(), status=NOT_SEEN_YET))
        self.happened()

    @precondition(lambda self: not self.clock_was_set)  # no token would tell of it after a restart
    @rule()
    def the_operator_restarts(self) -> None:
        self.world.restart()
        self.forget()
        self.run()

    @rule(lags=st.booleans())
    def the_watch_of_secrets_lags_or_catches_up(self, *, lags: bool) -> None:
        self.lags = lags
        self.happened()

    def change(self, **changes: Any) -> None:
        token = self.world.token()
        spec = replace(token.spec, **changes)
        if spec != token.spec:
            self.world.kube.put_token(replace(token, spec=spec, generation=token.generation + 1))
        self.happened()

    def remove_foreign(self) -> None:
        for key, secret in list(self.world.kube.secrets.items()):
            if secret.uid == FOREIGN_UID:
                del self.world.kube.secrets[key]

    # The operator runs

    def happened(self) -> None:
        """Something changed, and the operator is woken."""
        self.run()

    def run_until(self, end: datetime) -> None:
        while self.again is not None and (due := self.world.due(self.again)) <= end:
            if self.world.woken or self.again <= self.world.clock.now():
                self.run()
            else:
                self.world.pass_time(due - self.world.clock.now())
        self.world.pass_time(end - self.world.clock.now())

    def run(self) -> None:
        """Run the operator once, and check what it must leave as it is."""
        now = self.world.clock.now()
        served, anywhere = self.served(), self.serving()
        fails = self.world.kube.faults.planned()
        foreign = {key: secret for key, secret in self.world.kube.secrets.items() if secret.uid == FOREIGN_UID}
        self.world.woken[:] = [key for key in self.world.woken if key != RIVAL]  # whom nobody serves here
        if self.lags:
            self.world.sync_tokens()
        self.again = self.world.reconcile(sync=not self.lags)
        if CREDENTIALS_KEY not in self.world.kube.credentials:
            self.cause = None  # credentials that are there again are a new one
        if self.issued is not None and self.issued.spec_hash != self.world.token().spec.request_hash():
            self.issued = None  # what was never written for an earlier spec needn't be kept
        assert self.again is not None, "an AssetToken that is there is not forgotten"
        assert self.again > now, "a wait always ends after now"
        for key, secret in foreign.items():
            assert self.world.kube.secrets[key] == secret, "a foreign Secret is left as it was"
        if served is not None:
            after = self.served()
            assert after is not None, "a good token stays until it expires"
            assert after.issued_at >= served.issued_at or after.spec_hash != served.spec_hash
        assert self.serving() or not anywhere, "nor is the last one removed under an earlier name"
        if not self.lags and not fails and not self.unsure():
            self.check_status()
        if served is not None and self.world.asset.skew is not None:
            self.clock_was_set = self.clock_was_set and abs(served.skew - self.world.asset.skew) > 3 * SECOND

    def own_secret(self) -> SecretState | None:
        """The Secret under the name that the spec says, if it is the AssetToken's own."""
        secret = self.world.secret()
        return secret if secret is not None and is_owned(secret, self.world.token()) else None

    def served(self) -> IssuedToken | None:
        """The token that consumers find now under the name that the spec says."""
        secret = self.own_secret()
        return None if secret is None else self.valid(secret)

    def is_unproved(self) -> bool:
        """Whether it was written with other credentials, so that an operator that finds it may not believe it."""
        secret = self.own_secret()
        token = None if secret is None else stored_token(secret)
        if secret is None or token is None or token.access_token is None:
            return False
        if CREDENTIALS_KEY not in self.world.kube.credentials:
            return secret.controller_uid is None
        return prove(secret, self.world.token(), token, proof_key(self.credentials, token.access_token)) is None

    def serving(self) -> list[SecretState]:
        """The AssetToken's own Secrets that hold a valid token, under whatever name."""
        owner = self.world.token()
        return [secret for secret in self.world.kube.secrets.values() if is_owned(secret, owner) and self.valid(secret)]

    def valid(self, secret: SecretState) -> IssuedToken | None:
        token = stored_token(secret)
        return token if token is not None and token.expires_at > self.asset_now() else None

    def asset_now(self) -> datetime:
        """What Asset's clock says: a token's times are on that."""
        assert self.world.asset.skew is not None
        return self.world.clock.now() + self.world.asset.skew

    def unsure(self) -> bool:
        """Whether the clock was set, maybe after the served token's issue, and no token has told of Asset's since."""
        served, skew = self.served(), self.world.asset.skew
        was_set = served is not None and skew is not None and abs(served.skew - skew) > 3 * SECOND
        return (self.clock_was_set or was_set) and self.world.clocks.skews(Environment.SANDBOX).proved is None

    # What must be true

    def check_request(self, spec: Spec, credentials: Credentials) -> None:
        token, now = self.world.token(), self.world.clock.now()
        assert not spec.suspend, "nothing is requested while suspended"
        secret = self.world.secret()
        assert secret is None or is_owned(secret, token), "nothing is requested while blocked"
        assert not self.has_senior(), "an older AssetToken has the Secret's name"
        known = [found for found in (self.issued, None if secret is None else stored_token(secret)) if found]
        newest = max(known, key=lambda found: found.revision, default=None)
        assert newest is None or not self.does(newest, credentials) or self.unsure(), "a good token is not replaced"
        cause = f"{spec.request_hash()}/{credentials.identity()}/{token.renew_request}"
        is_retry, self.cause = cause == self.cause, cause
        if is_retry and self.endpoint_fails():  # what asks whether it is up again doesn't count
            return
        self.requests.append(now)
        recent = [moment for moment in self.requests if moment > now - MINUTE]
        assert len(recent) <= 4, "at most four requests a minute, whatever the causes"

    def endpoint_fails(self) -> bool:
        fault = self.world.asset.faults.coming("request_token")
        return isinstance(fault, AssetUnavailableError) or (isinstance(fault, Reply) and not gets_through(fault))

    def does(self, found: IssuedToken, credentials: Credentials) -> bool:
        """Whether the token is one that no request with these credentials is needed for."""
        token, now = self.world.token(), self.asset_now()
        fingerprint = credentials_fingerprint(credentials, SecretStr(text_of(found)))
        return (
            found.spec_hash == token.spec.request_hash()
            and found.expires_at > now
            and renewal_time(found, token.spec, token.uid) > now
            and token.renew_request in (None, found.renew_request)
            and found.credentials_fingerprint == fingerprint
        )

    def has_senior(self) -> bool:
        """Whether an older AssetToken names the same Secret."""
        token, rival = self.world.token(), self.world.kube.asset_tokens.get(RIVAL)
        return rival is not None and rival.secret_key == token.secret_key and rival.created < token.created

    def check_write(self, manifest: Mapping[str, Any]) -> None:
        now = self.world.clock.now()
        found = self.world.secret()
        assert not self.has_senior(), "an older AssetToken has the Secret's name"
        assert manifest["metadata"]["name"] == self.world.token().spec.secret.name
        assert found is None or found.uid != FOREIGN_UID, "a foreign Secret is never written"
        self.issued = stored_token_of(manifest) or self.issued
        content = digest(str(manifest))
        if content != self.content:
            self.content, self.writes = content, []
            self.failing_write = None
        if self.world.kube.faults.coming("apply_secret") is not None:
            latest, uid = self.failing_write, None if found is None else found.uid
            assert latest is None or latest[1] != uid or now - latest[0] >= SECOND, "what fails is tried again later"
            self.failing_write = (now, uid)
            return
        self.failing_write = None
        self.writes.append(now)
        recent = [moment for moment in self.writes if moment > now - WRITE_WINDOW]
        assert len(recent) <= MOST_WRITES, "the same content is written later each time"

    def check_status(self) -> None:
        """What the status says is true, where the cluster was there to be read and written."""
        status = self.world.token().status
        assert "canary" not in str(status)
        assert len(status.history or ()) <= 10
        served = self.served()
        fits = served is not None and served.spec_hash == self.world.token().spec.request_hash()
        ready = fits and not self.has_senior()
        if not status.conditions:
            assert self.world.waits_for_slot(), "only who waits for a place a little may have no status yet"
            assert not ready
            return
        if not (ready and (self.is_unproved() or self.unsure())):  # it may only say too little
            assert self.world.conditions()["Ready"][0] == str(ready), "Ready is what consumers find"
        assert status.observed_generation == self.world.token().generation

    def teardown(self) -> None:
        """When all is well again, the token is renewed, and nothing more is done than that takes."""
        if not hasattr(self, "again"):
            return
        self.all_works_again()
        self.world.asset.expires_in, self.world.asset.headers = 3600, {}
        self.world.kube.asset_tokens.pop(RIVAL, None)
        self.world.kube.put_credentials(self.credentials)
        self.remove_foreign()
        self.lags = False
        self.change(suspend=False)
        self.run_until(self.world.clock.now() + SLOWEST_PROBE + WRITE_WINDOW)
        token, served = self.world.token(), self.served()
        assert served is not None
        assert self.does(served, self.credentials)
        assert self.world.conditions()["Ready"] == ("True", Reason.SECRET_SYNCED)
        assert self.world.conditions()["Issuing"][0] == "False"
        assert "Stalled" not in self.world.conditions()
        assert token.status.observed_generation == token.generation
        assert token.status.revision == served.revision
        self.world.calls()
        if self.unsure():  # then it may be renewed early
            return
        assert self.world.asset.skew is not None
        due = renewal_time(served, token.spec, token.uid) - self.world.asset.skew
        self.run_until(due - SECOND)
        self.run()
        assert self.world.calls() == [], "what is in order costs no call"
        self.run_until(due)
        expected = {"read_secret": 1, "apply_secret": 1, "write_status": 1}
        assert Counter(self.world.calls()) == expected, "a renewal costs two writes"


def stored_token_of(manifest: Mapping[str, Any]) -> IssuedToken | None:
    metadata = manifest["metadata"]
    key = Key(metadata["namespace"], metadata["name"])
    annotations, data = metadata["annotations"], manifest["data"]
    return stored_token(SecretState(key, "", manifest["type"], annotations=annotations, data=data))


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(stateful_step_count=40)
