"""`create`: an AssetToken from flags, in the cluster or as a manifest."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import click

from asset_token_operator.kubectl.change import key_of
from asset_token_operator.kubectl.cluster import tokens_path
from asset_token_operator.kubectl.problems import UsageProblem
from asset_token_operator.kubectl.tool import Tool, full_name, options
from asset_token_operator.model import GROUP, KIND, VERSION, DeletionPolicy, Environment
from asset_token_operator.times import parse_duration

if TYPE_CHECKING:
    from collections.abc import Mapping

ENVIRONMENTS: Final = tuple(environment.value for environment in Environment)
FORMATS: Final = ("text", "json", "yaml", "name")
NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LONGEST_NAME: Final = 253
BUSINESS: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
SCOPE: Final = re.compile(r"[!#-\[\]-~]{1,128}")
LEAST: Final[Mapping[str, timedelta]] = {"lifetime": timedelta(seconds=60), "renewBefore": timedelta(seconds=1)}
LONGEST_LIFETIME: Final = timedelta(hours=8760)
USUAL_LIFETIME: Final = timedelta(hours=1)


@click.command()
@click.argument("name")
@click.option(
    "--environment",
    required=True,
    type=click.Choice([one.value for one in Environment]),
    help="Which of Asset's services.",
)
@click.option("--credentials", required=True, metavar="SECRET", help="The Secret with client_id and client_secret.")
@click.option("--business-id", metavar="ID", help="The business that the token is for.")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="A scope to ask for; repeatable.")
@click.option("--resource", "resources", multiple=True, metavar="URI", help="A service it is for; repeatable.")
@click.option("--lifetime", metavar="DURATION", help="How long the token shall live, such as 1h30m.")
@click.option("--renew-before", metavar="DURATION", help="How long before its expiry it is renewed.")
@click.option("--secret-name", metavar="SECRET", help="The Secret it goes to. Default: the AssetToken's name.")
@click.option("--retain", is_flag=True, help="Keep the Secret when the AssetToken goes.")
@click.option("--dry-run", type=click.Choice(["none", "client", "server"]), default="none", show_default=True)
@options(lists=False, formats=FORMATS)
def create(  # noqa: PLR0913, PLR0917 - one for each field
    name: str,
    environment: str,
    credentials: str,
    business_id: str | None,
    scopes: tuple[str, ...],
    resources: tuple[str, ...],
    lifetime: str | None,
    renew_before: str | None,
    secret_name: str | None,
    retain: bool,  # noqa: FBT001
    dry_run: str,
    **given: Any,  # noqa: ANN401
) -> None:
    """Create an AssetToken; with --dry-run=client -o yaml write its manifest, without a cluster."""
    tool = Tool(**given)
    secret = {"name": secret_name, "deletionPolicy": DeletionPolicy.RETAIN.value if retain else None}
    spec = {
        "environment": environment,
        "credentialsSecretRef": {"name": credentials},
        "businessId": business_id,
        "scopes": list(dict.fromkeys(scopes)),
        "resources": list(dict.fromkeys(resources)),
        "lifetime": lifetime,
        "renewBefore": renew_before,
        "secret": _given(secret),
    }
    body = manifest(name, _given(spec))
    if tool.namespace is not None or dry_run != "client":
        body["metadata"]["namespace"] = tool.place
    if dry_run != "client":
        query = "?dryRun=All" if dry_run == "server" else ""
        body = tool.cluster.create(f"{tokens_path(tool.place)}{query}", body)
    if tool.for_programs:
        tool.write_data(body)
    elif tool.output == "name":
        tool.write(full_name(name))
    else:
        suffix = "" if dry_run == "none" else f" ({dry_run} dry run)"
        tool.write(f"{key_of(body) if dry_run != 'client' else name}: created{suffix}")


def manifest(name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """An AssetToken that the API server takes.

    Raises:
        UsageProblem: Something given is none that it takes.
    """
    secret = spec.get("secret", {}).get("name", name)
    for what, value in (("name", name), ("--credentials", spec["credentialsSecretRef"]["name"]), ("Secret", secret)):
        if not NAME.fullmatch(value) or len(value) > LONGEST_NAME:
            raise UsageProblem(f"{what}: {value!r} is no name: use lower-case letters, digits, '-' and '.'.")
    if secret == spec["credentialsSecretRef"]["name"]:
        raise UsageProblem("The token must not be written into the credentials Secret: give another --secret-name.")
    if not BUSINESS.fullmatch(spec.get("businessId", "x")):
        raise UsageProblem("--business-id: use up to 128 letters, digits, '_' and '-'.")
    for scope in spec.get("scopes", ()):
        if not SCOPE.fullmatch(scope):
            raise UsageProblem(f"--scope: {scope!r} is no scope: use printable ASCII without blanks, one a --scope.")
    for resource in spec.get("resources", ()):
        if not _is_resource(resource):
            raise UsageProblem(f"--resource: {resource!r} is no absolute URI without a fragment: give one with https.")
    _check_durations(spec)
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "metadata": {"name": name}, "spec": dict(spec)}


def _check_durations(spec: Mapping[str, Any]) -> None:
    read = {}
    for field, least in LEAST.items():
        if field in spec:
            try:
                read[field] = parse_duration(spec[field])
            except ValueError as error:
                raise UsageProblem(f"{field}: {error}.") from None
            if not least <= read[field] <= LONGEST_LIFETIME:
                raise UsageProblem(f"{field}: give at least {least.seconds}s and at most 8760h.")
    if read.get("renewBefore", timedelta()) >= read.get("lifetime", USUAL_LIFETIME):
        raise UsageProblem("--renew-before must be less than the lifetime (1h where it is left out).")


def _is_resource(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    plain = text.isascii() and text.isprintable() and not set(text) & set(' <>"{}|\\^`#')
    return plain and bool(parts.scheme) and bool(parts.hostname)


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, without the rest."""
    return {name: value for name, value in fields.items() if value not in (None, [], {})}
