"""Further keys of the Secret: the texts of `spec.secret.template` with `${name}` filled in, and no logic.

It is a module of its own, below all that knows of tokens, because who may create AssetTokens decides what is in here.
Whether a template is valid depends on the template alone and never on a token: one that was applied and works can't
stop working at a renewal. So its size is judged by the longest values that there may be, before anything is filled in.

The CRD's rules refuse at apply whatever is refused here, but for the size in all. What gets past them, as where the
CRD is of another version than the operator, is left out of the Secret and named by a condition.
"""

from __future__ import annotations

import re
from string import Template
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

LONGEST_VALUES: Final = {
    "access_token": 16 * 1024,
    "token_type": 6,
    "authorization": 16 * 1024 + 7,
    "base_url": 2048,
    "environment": 10,
    "business_id": 128,
    "scopes": 66 * 1024,
    "expires_at": 20,
    "expires_at_unix": 12,
}
"""What may be filled in, and how many bytes of it there are at most."""

LARGEST_SECRET: Final = 1024 * 1024
"""Bytes of all values of a Secret together that the API server admits."""

ROOM: Final = LARGEST_SECRET - 40 * 1024
"""What the standard keys leave of it, which hold the token twice."""

PLACEHOLDER: Final = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>[^{}$]{0,64})\})?")
KEY: Final = re.compile(r"(?!\.$|\.\.)[-._a-zA-Z0-9]{1,253}")
QUOTING: Final = frozenset("\"'\\$`")
"""What would end or change a quoted text, in JSON, in a shell or in a configuration file."""


def find_problem(template: Mapping[str, str], standard_keys: Collection[str]) -> str | None:
    """What is wrong with a template, in a sentence that says what to do; None where nothing is.

    Args:
        template: The template of each key.
        standard_keys: The keys that every such Secret has, which are no template's.
    """
    problems = (_problem_of(key, text, standard_keys) for key, text in sorted(template.items()))
    return next((problem for problem in problems if problem is not None), _size_problem(template))


def render(template: Mapping[str, str], standard_keys: Collection[str], values: Mapping[str, str]) -> dict[str, str]:
    """The further keys with what they hold; a key that is wrong is left out, and all are where they are too large.

    Args:
        template: The template of each key.
        standard_keys: The keys that every such Secret has, which are no template's.
        values: What is filled in, by the names that `LONGEST_VALUES` has.
    """
    valid = {key: text for key, text in template.items() if _problem_of(key, text, standard_keys) is None}
    if _size_problem(valid) is not None:
        return {}
    return {key: Template(text).substitute(values) for key, text in valid.items()}


def plain_scopes(scopes: Collection[str]) -> str:
    """The scopes as OAuth writes them, without any that would end a quoted text where they are filled in."""
    return " ".join(scope for scope in scopes if QUOTING.isdisjoint(scope))


def _problem_of(key: str, text: str, standard_keys: Collection[str]) -> str | None:
    where = f"spec.secret.template: key {key[:64]}"
    if key in standard_keys:
        return f"{where} is one that every token's Secret has; give it another name."
    if not KEY.fullmatch(key):
        return f'{where} is no key of a Secret; use letters, digits, "-", "_" and ".", not starting with "..".'
    wrong = next(_wrong_placeholders(text), None)
    if wrong is None:
        return None
    return f"{where} has {wrong}; known are {', '.join(f'${{{name}}}' for name in LONGEST_VALUES)}, and $$ is a $."


def _wrong_placeholders(text: str) -> Iterator[str]:
    for found in PLACEHOLDER.finditer(text):
        if found["name"] is None and found["dollar"] is None:
            yield "a $ that stands alone"
        elif found["name"] is not None and found["name"] not in LONGEST_VALUES:
            yield f"{found[0]}, which is not known"


def _size_problem(template: Mapping[str, str]) -> str | None:
    """Whether the Secret may become larger than the API server admits."""
    size = sum(map(_largest, template.values()))
    if size <= ROOM:
        return None
    return (
        f"spec.secret.template may need {size // 1024} KiB, and a Secret holds {ROOM // 1024} KiB besides the token:"
        f" have less text, or fewer of ${{access_token}} and ${{authorization}}, each of which counts"
        f" {LONGEST_VALUES['access_token'] // 1024} KiB, and of ${{scopes}}, {LONGEST_VALUES['scopes'] // 1024} KiB."
    )


def _largest(text: str) -> int:
    """How many bytes there may be where the longest values are filled in; what isn't known is left out."""
    size = len(text.encode())
    for found in PLACEHOLDER.finditer(text):
        filled_in = 1 if found["dollar"] else LONGEST_VALUES.get(found["name"] or "", 0)
        size += filled_in - len(found[0].encode())
    return size
