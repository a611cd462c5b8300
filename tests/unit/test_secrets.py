"""No dataclass of the package shows a secret, whoever prints it: all are looked at, also those to come."""

import dataclasses
import importlib
import pkgutil
import re
from collections.abc import Iterator

import pytest

import asset_token_operator

SECRETIVE = re.compile(
    "access_token|authorization|body|bytes|content|cookie|credential|data|header|login|password|proxy|secret|configuration"
    "|certificate|payload|annotations"
)
"""What a field is called that may hold a secret."""

UNSUSPICIOUS = {
    "CredentialsRef.client_secret_key": "what a key is called",
    "IssuedToken.credentials_fingerprint": "a fingerprint, which the Secret's annotations have too",
    "Observed.credentials_are_live": "a flag",
    "Observed.credentials_error": "an error in our own words",
    "Observed.credentials_version": "a version",
    "Observed.old_secrets_are_live": "a flag",
    "Observed.secret_is_live": "a flag",
    "SecretSpec.annotations": "the user's, in the AssetToken's spec",
    "Status.secret_name": "a name",
}


def dataclasses_of_the_package() -> Iterator[type]:
    for module in pkgutil.iter_modules(asset_token_operator.__path__, "asset_token_operator."):
        if module.name != "asset_token_operator.__main__":
            for kind in vars(importlib.import_module(module.name)).values():
                if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__module__ == module.name:
                    yield kind


DATACLASSES = {kind.__name__: kind for kind in dataclasses_of_the_package()}
HIDDEN = re.compile(
    "|".join(("SecretStr", "None", "SecretReflector", *DATACLASSES, r"tuple|frozenset|\.\.\.|[\[\], |]"))
)
"""Types that show no secret: they hide it, or are looked at themselves."""


@pytest.mark.parametrize("name", list(DATACLASSES))
def test_what_a_dataclass_shows_holds_no_secret(name: str) -> None:
    suspicious = {
        f"{name}.{field.name}": field.type
        for field in dataclasses.fields(DATACLASSES[name])
        if field.repr and SECRETIVE.search(field.name) and HIDDEN.sub("", str(field.type))
    }

    assert suspicious.keys() - UNSUSPICIOUS.keys() == set()


@pytest.mark.parametrize(
    "field",
    ["Access._configuration", "Proxy.authorization", "Reply.body", "SecretState.annotations", "SecretState.data"],
)
def test_what_may_hold_one_is_not_shown(field: str) -> None:
    name, _, wanted = field.partition(".")
    (found,) = (found for found in dataclasses.fields(DATACLASSES[name]) if found.name == wanted)

    assert not found.repr
