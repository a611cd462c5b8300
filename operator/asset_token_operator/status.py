"""An AssetToken's status: a report, which the operator alone writes, and which may be lost.

Each AssetToken's is in memory, so its parts are dataclasses with slots, a quarter of the size of pydantic's models.
"""

from __future__ import annotations

import sys
from dataclasses import field, fields
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import AfterValidator, ConfigDict, Field, PlainSerializer, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass

from asset_token_operator.times import format_time, whole_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_HISTORY: Final = 10

Time = Annotated[datetime, AfterValidator(whole_seconds), PlainSerializer(format_time)]
Word = Annotated[str, AfterValidator(sys.intern)]
"""One of few texts, which many have; it is in memory once."""

AS_IN_CRD: Final = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class ConditionType(StrEnum):
    """What a condition is about."""

    READY = "Ready"
    ISSUING = "Issuing"
    STALLED = "Stalled"
    SCOPES_GRANTED = "ScopesGranted"
    ROLLOUTS_RESTARTED = "RolloutsRestarted"


@dataclass(frozen=True, slots=True, kw_only=True, config=AS_IN_CRD)
class Condition:
    """One aspect of the state, as `metav1.Condition` has it."""

    type: Word
    status: Literal["True", "False", "Unknown"]
    reason: Word
    message: str
    observed_generation: int = 0
    last_transition_time: Time

    @property
    def is_true(self) -> bool:
        """Whether it is so."""
        return self.status == "True"


@dataclass(frozen=True, slots=True, kw_only=True, config=AS_IN_CRD)
class HistoryEntry:
    """How one request for a token ended."""

    time: Time
    reason: Word
    outcome: Word
    expiration_time: Time | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, config=AS_IN_CRD)
class Binding:
    """The Secret, as a provisioned service of servicebinding.io."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True, config=AS_IN_CRD)
class Status:
    """The status; its fields are described in the CRD."""

    observed_generation: int = -1
    summary: Word | None = None
    conditions: tuple[Condition, ...] | None = None
    secret_name: str | None = None
    binding: Binding | None = None
    issuance_time: Time | None = None
    expiration_time: Time | None = None
    renewal_time: Time | None = None
    granted_scopes: tuple[Word, ...] | None = None
    token_id: str | None = None
    revision: int | None = None
    last_handled_renew_request: str | None = None
    synced_hash: str | None = field(default=None, compare=False)
    """A hint to the operator itself, and no news."""

    failed_attempts: int | None = None
    last_failure_time: Time | None = None
    history: Annotated[tuple[HistoryEntry, ...], Field(max_length=LONGEST_HISTORY)] | None = None

    def find(self, condition_type: ConditionType) -> Condition | None:
        """The condition of that type; None where there is none."""
        return next((found for found in self.conditions or () if found.type == condition_type), None)

    def is_true(self, condition_type: ConditionType) -> bool:
        """Whether the condition is there and true."""
        found = self.find(condition_type)
        return found is not None and found.is_true

    def to_json(self) -> dict[str, Any]:
        """The same as the API server has it."""
        found: dict[str, Any] = ADAPTER.dump_python(self, by_alias=True, exclude_none=True, mode="json")
        return found


FIELDS: Final = tuple(to_camel(one.name) for one in fields(Status))
"""Their names in the CRD."""

ADAPTER: Final = TypeAdapter(Status)

NOT_SEEN_YET: Final = Status()
"""Of an AssetToken that no operator has looked at."""


def parse_status(status: Mapping[str, Any]) -> Status:
    """Read a status; one that can't be read, as somebody else has written it, counts as lost."""
    try:
        return ADAPTER.validate_python(status)
    except ValidationError:
        return NOT_SEEN_YET
