"""An AssetToken's status: a report, which the operator alone writes, and which may be lost."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, ValidationError
from pydantic.alias_generators import to_camel

from asset_token_operator.times import format_time, whole_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_HISTORY: Final = 10

Time = Annotated[datetime, AfterValidator(whole_seconds), PlainSerializer(format_time)]


class ConditionType(StrEnum):
    """What a condition is about."""

    READY = "Ready"
    ISSUING = "Issuing"
    STALLED = "Stalled"
    SCOPES_GRANTED = "ScopesGranted"
    ROLLOUTS_RESTARTED = "RolloutsRestarted"


class _Part(BaseModel):
    """A part of the status, as the CRD has it."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class Condition(_Part):
    """One aspect of the state, as `metav1.Condition` has it."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str
    observed_generation: int = 0
    last_transition_time: Time

    @property
    def is_true(self) -> bool:
        """Whether it is so."""
        return self.status == "True"


class HistoryEntry(_Part):
    """How one request for a token ended."""

    time: Time
    reason: str
    outcome: str
    expiration_time: Time | None = None
    message: str | None = None


class Binding(_Part):
    """The Secret, as a provisioned service of servicebinding.io."""

    name: str


class Status(_Part):
    """The status; its fields are described in the CRD."""

    observed_generation: int = -1
    summary: str | None = None
    conditions: tuple[Condition, ...] | None = None
    secret_name: str | None = None
    binding: Binding | None = None
    issuance_time: Time | None = None
    expiration_time: Time | None = None
    renewal_time: Time | None = None
    granted_scopes: tuple[str, ...] | None = None
    token_id: str | None = None
    revision: int | None = None
    last_handled_renew_request: str | None = None
    synced_hash: str | None = None
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
        return self.model_dump(by_alias=True, exclude_none=True, mode="json")


NOT_SEEN_YET: Final = Status()
"""Of an AssetToken that no operator has looked at."""


def parse_status(status: Mapping[str, Any]) -> Status:
    """Read a status; one that can't be read, as somebody else has written it, counts as lost."""
    try:
        return Status.model_validate(status)
    except ValidationError:
        return NOT_SEEN_YET
