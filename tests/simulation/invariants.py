"""What must hold after every step, whatever the weather.

- No AssetToken is without a valid token, by Asset's clock, unless something explains it: trouble that lasted for longer
  than its window less a minute, or that took the token away at once; and then not for longer than it takes to recover.
- Whoever needs a token (a new AssetToken, a changed spec, a renew request) gets one in time.
- Whoever is due is renewed in the first half of the window, where nothing is in the way: nobody starves.
- Never more than four requests a minute for an AssetToken, but to ask an endpoint whether it is up again.
- Two writes a token, and those that repair what somebody did.
- Nothing secret is in a log line, an event or a status.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from asset_token_operator.model import GROUP, Environment, Key
from asset_token_operator.times import parse_duration
from tests.simulation.asset import OUTAGES
from tests.simulation.cluster import ASSET_TOKENS, SECRETS, decode
from tests.simulation.virtual_time import seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.simulation.asset import Asset, TokenRequest
    from tests.simulation.cluster import Body, Change
    from tests.simulation.history import History

NOT_COUNTED: Final = frozenset({*OUTAGES, "404"})
"""What asks whether an endpoint is up again may be repeated; the bound for these is another."""

MOST_A_MINUTE: Final = 4
MOST_PROBES_A_MINUTE: Final = 40
MOST_WRITES_A_MINUTE: Final = 2 * MOST_A_MINUTE + 4
PROMPT: Final = 60.0
"""Seconds in which a need is met when nothing is in the way."""

NOTICED: Final = 2.0
"""A gap that is shorter than this, in seconds, is whole seconds that were cut off, and the way of the write."""

SPARE: Final = 60.0
FOREVER: Final = float("inf")


@dataclass
class Trouble:
    """Something that may keep AssetTokens from having a valid token.

    Attributes:
        what: For the history.
        begins: When it began.
        ends: When it ended; it lasts while that is to come.
        recovery: How long afterwards it may take, in seconds, until all is well.
        at_once: Whether it takes the token itself away.
        mild: Whether it explains waits, and nothing worse.
        environment: Whose it is: only those that all of these fit; None fits all.
    """

    what: str
    begins: float
    recovery: float
    ends: float = FOREVER
    at_once: bool = False
    mild: bool = False
    environment: Environment | None = None
    client: str | None = None
    business: str | None = None
    name: str | None = None

    def concerns(self, token: Token) -> bool:
        wanted = (
            (self.environment, token.environment),
            (self.client, token.client),
            (self.business, token.business),
            (self.name, token.key.name),
        )
        return all(mine in (None, theirs) for mine, theirs in wanted)

    def until(self) -> float:
        return self.ends + self.recovery


@dataclass
class Token:
    """An AssetToken, as consumers see it, who know Asset's clock.

    Attributes:
        window: How long before its expiry a token is renewed, at least, in seconds.
        valid_until: When the token that is served expires.
        gap_since: Since when there is none.
        gaps: When there was none, whatever explains it.
        left: How long the earlier token was still valid when another was written, each time, in seconds.
        needs_since: Since when a newer one is needed.
    """

    key: Key
    environment: Environment
    client: str
    business: str | None
    created: float
    window: float = 0.0
    generation: int = 0
    text: str = ""
    valid_until: float = 0.0
    gap_since: float | None = None
    gaps: list[tuple[float, float]] = field(default_factory=list)
    left: list[float] = field(default_factory=list)
    needs_since: float | None = None
    gap_told: bool = False
    need_told: bool = False
    issued: int = 0
    writes: int = 0
    excused_writes: int = 0
    lately: list[float] = field(default_factory=list)
    requests: defaultdict[str, list[tuple[float, bool]]] = field(default_factory=lambda: defaultdict(list))


class Judge:
    """Sees all that happens, and says what shouldn't.

    Args:
        drain: Seconds that it takes at most, with the limit as it is, until all have been served who wait.

    Attributes:
        longest_gap: The longest time that nothing explains, in seconds, for which an AssetToken had no valid token.
        explained_gaps: Seconds that something explains, over all.
    """

    def __init__(self, history: History, assets: Mapping[Environment, Asset], drain: float) -> None:
        self.drain = drain
        self.tokens: dict[str, Token] = {}
        self.troubles: list[Trouble] = []
        self.longest_gap = 0.0
        self.explained_gaps = 0.0
        self.outcomes: defaultdict[str, int] = defaultdict(int)
        self.resets: defaultdict[str, float] = defaultdict(float)
        self._history = history
        self._assets = assets

    # What happens.

    def trouble(self, trouble: Trouble) -> Trouble:
        """Something goes wrong."""
        self.troubles.append(trouble)
        return trouble

    def forgets(self, operator: str) -> None:
        """What an operator knew of its requests is gone: it was started anew, or its clock was set."""
        self.resets[operator] = seconds()

    def changed(self, change: Change) -> None:
        """An object of the cluster changed."""
        metadata = change.body["metadata"]
        if change.kind == ASSET_TOKENS:
            self._asset_token_changed(change)
        elif change.kind == SECRETS:
            owner = metadata.get("annotations", {}).get(f"{GROUP}/owner")
            token = self.tokens.get(owner or metadata["name"])
            if token is not None and token.key == Key(metadata["namespace"], metadata["name"]):
                self._secret_changed(token, change)

    def _asset_token_changed(self, change: Change) -> None:
        metadata, spec = change.body["metadata"], change.body["spec"]
        name = metadata["name"]
        if change.type == "DELETED":
            del self.tokens[name]
            return
        token = self.tokens.get(name)
        if token is None:
            token = Token(
                Key(metadata["namespace"], name),
                Environment(spec["environment"]),
                spec["credentialsSecretRef"]["name"],
                spec.get("businessId"),
                seconds(),
                gap_since=seconds(),
                needs_since=seconds(),
            )
            self.tokens[name] = token
            self.trouble(Trouble("it is new", seconds(), PROMPT + self.drain, seconds(), at_once=True, name=name))
        if metadata["generation"] != token.generation:  # each is worth a status
            token.generation = metadata["generation"]
            token.lately.clear()
        token.window = _window(spec)
        self._history.guard(f"the status of {name}", str(change.body["status"]))

    def needs(self, name: str) -> None:
        """Somebody asks for a newer token."""
        token = self.tokens[name]
        if token.needs_since is None:
            token.needs_since, token.need_told = seconds(), False

    def excuse(self, name: str, writes: int) -> None:
        """So many more writes than two a token are in order."""
        self.tokens[name].excused_writes += writes

    def _secret_changed(self, token: Token, change: Change) -> None:
        data = {} if change.type == "DELETED" else change.body.get("data", {})
        text = decode(data.get("access_token", ""))
        issued = self._assets[token.environment].issued.get(text)
        if issued is not None and token.needs_since is not None and issued.at >= token.needs_since:
            token.needs_since = None
        self._look(token)
        if token.text != text and token.gap_since is None:
            self._judge_lateness(token, token.valid_until - seconds())
        token.text = text
        validity = self._assets[token.environment].validity(text)
        now = seconds()
        if validity is None or not validity[0] - NOTICED <= now < validity[1]:
            token.gap_since = now if token.gap_since is None else token.gap_since
            token.valid_until = now
            return
        token.valid_until = validity[1]
        if token.gap_since is not None:
            self._end_gap(token, token.gap_since, now)

    def requested(self, request: TokenRequest, outcome: str) -> None:
        """Asset got a request."""
        self.outcomes[outcome] += 1
        self._history.tell("asset", f"{request.operator} asks for {request.name}: {outcome}")
        token = self.tokens.get(request.name)
        if token is None:
            return
        token.issued += outcome == "issued"
        times = token.requests[request.operator]
        times.append((request.at, outcome not in NOT_COUNTED))
        since = max(request.at - 60, self.resets[request.operator])
        times[:] = [(at, counts) for at, counts in times if at > since]
        counted = sum(counts for _, counts in times)
        if counted > MOST_A_MINUTE or len(times) > MOST_PROBES_A_MINUTE:
            self._history.accuse(f"{request.name}: {counted} requests within a minute, and {len(times)} with probes")

    # What is judged.

    def look(self) -> None:
        """Judge what lasts, now."""
        now = seconds()
        for token in self.tokens.values():
            self._look(token)
            if token.gap_since is not None and not token.gap_told and now > self._excused_until(token, token.gap_since):
                token.gap_told = True
                self._history.accuse(f"{token.key}: no valid token since {now - token.gap_since:.0f} s")
            needs = token.needs_since
            if needs is not None and not token.need_told and now > self.served_by(token, needs):
                token.need_told = True
                self._history.accuse(f"{token.key}: a newer token has been needed for {now - needs:.0f} s")
        self._forget(now)

    def _look(self, token: Token) -> None:
        """Notice that a token has expired; Asset's clock may have been set since it was issued."""
        validity = self._assets[token.environment].validity(token.text)
        if validity is not None and token.gap_since is None:
            token.valid_until = validity[1]
            if token.valid_until <= seconds():
                token.gap_since, token.gap_told = token.valid_until, False

    def _judge_lateness(self, token: Token, left: float) -> None:
        """Whoever is due gets a place in time, where the limit has one and nothing is in the way."""
        token.left.append(left)
        due, now = token.valid_until - token.window, seconds()
        in_the_way = (
            trouble for trouble in self._concerning(token) if trouble.until() >= due and trouble.begins <= now
        )
        if left < token.window / 2 and not any(in_the_way):
            self._history.accuse(f"{token.key}: renewed late, with {left:.0f} s left of {token.window:.0f}")

    def _end_gap(self, token: Token, since: float, now: float) -> None:
        token.gap_since, token.gap_told = None, False
        token.gaps.append((since, now))
        if now - since <= NOTICED:
            return
        if now <= self._excused_until(token, since):
            self.explained_gaps += now - since
            return
        self.longest_gap = max(self.longest_gap, now - since)
        self._history.accuse(f"{token.key}: was without a valid token for {now - since:.0f} s")

    def _excused_until(self, token: Token, since: float) -> float:
        """Until when it is explained that there is no valid token; the moment itself where nothing explains it."""
        begins, lasted, at_once = self._chain_before(token, since)
        if not at_once and lasted - begins < token.window - SPARE:
            return since
        return self._chain_after(token, since + NOTICED, mild=False)

    def served_by(self, token: Token, needed: float) -> float:
        """When a need must have been met."""
        return self._chain_after(token, needed + PROMPT + self.drain)

    def _chain_before(self, token: Token, moment: float) -> tuple[float, float, bool]:
        """What was in the way, without a break, up to that moment: since when, until when, and whether at once."""
        begins, lasted, at_once = moment, 0.0, False
        for trouble in sorted(self._concerning(token), key=lambda trouble: -trouble.until()):
            if not trouble.mild and trouble.begins <= moment and trouble.until() >= begins:
                begins, lasted = min(begins, trouble.begins), max(lasted, min(trouble.ends, moment))
                at_once = at_once or trouble.at_once
        return begins, lasted, at_once

    def _chain_after(self, token: Token, until: float, *, mild: bool = True) -> float:
        for trouble in sorted(self._concerning(token), key=lambda trouble: trouble.begins):
            if trouble.begins <= until and (mild or not trouble.mild):
                until = max(until, trouble.until())
        return until

    def _concerning(self, token: Token) -> Iterable[Trouble]:
        return (trouble for trouble in self.troubles if trouble.concerns(token))

    def _forget(self, now: float) -> None:
        """What ended long ago explains nothing any more."""
        self.troubles = [trouble for trouble in self.troubles if trouble.until() + 4 * 3600 > now]

    def wrote(self, name: str) -> None:
        """An operator wrote a Secret or a status, and something of it was new."""
        token = self.tokens.get(name)
        if token is None:
            return
        now = seconds()
        token.writes += 1
        token.lately[:] = [at for at in token.lately if at > now - 60] + [now]
        if token.writes > 2 * token.issued + token.excused_writes:
            if not any(trouble.begins <= now <= trouble.until() for trouble in self._concerning(token)):
                self._history.accuse(f"{token.key}: {token.writes} writes for {token.issued} tokens")
            token.excused_writes += 1
        if len(token.lately) > MOST_WRITES_A_MINUTE:
            self._history.accuse(f"{token.key}: {len(token.lately)} writes within a minute")


def _window(spec: Body) -> float:
    """How long before its expiry a token is renewed, in seconds."""
    lifetime = parse_duration(spec.get("lifetime", "1h")).total_seconds()
    if "renewBefore" in spec:
        return parse_duration(spec["renewBefore"]).total_seconds()
    return lifetime / 3
