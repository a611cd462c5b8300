"""Settings are checked once, and all that are wrong are told together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from asset_token_operator.config import (
    EVERYWHERE,
    LOG_LEVELS,
    PRODUCTION_URL,
    SANDBOX_URL,
    Address,
    ConfigError,
    Settings,
    read_settings,
)
from asset_token_operator.model import Environment, Reserves
from tests.support.selectors import NO_SELECTORS, SELECTORS

if TYPE_CHECKING:
    from pathlib import Path


def settings_with(*namespaces: str, **changes: Any) -> Settings:
    given: dict[str, Any] = {
        "sandbox_url": SANDBOX_URL,
        "production_url": PRODUCTION_URL,
        "renewal_reserve": 20,
        "issue_reserve": 10,
        "ca_file": None,
        "selector": None,
        "leader_elect": False,
        "lease_name": "asset-token-operator",
        "lease_namespace": None,
        "health_address": None,
        "metrics_address": None,
        "token_metrics": True,
        "log_level": "info",
        "log_format": "text",
    }
    return read_settings(namespaces=namespaces, **(given | changes))


def problems_with(url: str) -> str:
    """What is said about a sandbox URL; nothing where it is taken."""
    try:
        settings_with(sandbox_url=url)
    except ConfigError as error:
        return str(error)
    return ""


def test_the_defaults_are_the_documented_endpoints_in_all_namespaces() -> None:
    assert settings_with() == Settings(
        namespaces=(),
        selector=None,
        endpoints={
            Environment.SANDBOX: "https://api.sandbox.getasset.com",
            Environment.PRODUCTION: "https://api.getasset.com",
        },
        reserves=Reserves(routine=0.2, first=0.1),
        ca_file=None,
        leader_elect=False,
        lease_name="asset-token-operator",
        lease_namespace=None,
        health_address=None,
        metrics_address=None,
        token_metrics=True,
        log_level="info",
        log_format="text",
    )


@pytest.mark.parametrize("level", [pytest.param(level, id=level) for level in LOG_LEVELS])
def test_the_log_level_is_kept(level: str) -> None:
    assert settings_with(log_level=level).log_level == level


def test_each_url_goes_to_its_own_environment() -> None:
    settings = settings_with(sandbox_url="https://sandbox.example.com", production_url="https://live.example.com")
    assert settings.endpoints == {
        Environment.SANDBOX: "https://sandbox.example.com",
        Environment.PRODUCTION: "https://live.example.com",
    }


def test_namespaces_keep_their_order_and_lose_their_repetitions() -> None:
    assert settings_with("shop", "books", "shop").namespaces == ("shop", "books")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("a", id="one-letter"),
        pytest.param("7", id="one-digit"),
        pytest.param("team-7", id="hyphen-inside"),
        pytest.param("a" * 63, id="longest"),
    ],
)
def test_a_namespace_name_is_taken(name: str) -> None:
    assert settings_with(name).namespaces == (name,)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("", id="empty"),
        pytest.param("Shop", id="upper-case"),
        pytest.param("-shop", id="hyphen-first"),
        pytest.param("shop-", id="hyphen-last"),
        pytest.param("my.shop", id="dot"),
        pytest.param("shop,books", id="two-in-one"),
        pytest.param("shop\n", id="line-break"),
        pytest.param("läden", id="umlaut"),
        pytest.param("a" * 64, id="too-long"),
        pytest.param("*", id="star"),
    ],
)
def test_what_names_no_namespace_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings_with(name)
    assert (
        str(caught.value) == f"--namespace: {name!r} is not a namespace's name; use lower-case letters, digits and '-'."
    )


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        pytest.param("https://api.example.com", "https://api.example.com", id="plain"),
        pytest.param("https://api.example.com/", "https://api.example.com", id="slash-at-the-end-is-dropped"),
        pytest.param("https://api.example.com//", "https://api.example.com", id="all-slashes-at-the-end-are-dropped"),
        pytest.param("https://gateway.example.com/asset/", "https://gateway.example.com/asset", id="path-is-kept"),
        pytest.param("https://api.example.com:8443", "https://api.example.com:8443", id="port"),
        pytest.param("HTTPS://API.EXAMPLE.COM", "HTTPS://API.EXAMPLE.COM", id="upper-case"),
        pytest.param("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443", id="ipv6"),
    ],
)
def test_an_https_url_is_taken(url: str, kept: str) -> None:
    assert settings_with(sandbox_url=url).endpoints[Environment.SANDBOX] == kept


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://127.0.0.1:8080", id="loopback-address"),
        pytest.param("http://127.8.9.1", id="another-loopback-address"),
        pytest.param("http://[::1]:8080", id="ipv6-loopback-address"),
        pytest.param("http://localhost:8080", id="localhost"),
        pytest.param("http://LOCALHOST:8080", id="localhost-in-capitals"),
    ],
)
def test_plain_http_is_taken_for_loopback(url: str) -> None:
    assert problems_with(url) == ""


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://api.sandbox.getasset.com", id="asset"),
        pytest.param("HTTP://api.sandbox.getasset.com", id="upper-case"),
        pytest.param("http://127.0.0.1.example.com", id="name-that-begins-like-loopback"),
        pytest.param("http://localhost.example.com", id="name-that-begins-like-localhost"),
        pytest.param("http://notlocalhost", id="name-that-ends-like-localhost"),
        pytest.param("http://0.0.0.0:8080", id="any-address"),
        pytest.param("http://[::]:8080", id="any-ipv6-address"),
        pytest.param("http://10.0.0.1", id="private-address"),
        pytest.param("http://128.0.0.1", id="just-past-loopback"),
        pytest.param("http://[::2]", id="just-past-ipv6-loopback"),
        pytest.param("http://2130706433", id="loopback-as-a-number"),
        pytest.param("http://127.1", id="loopback-in-short"),
    ],
)
def test_plain_http_to_anything_else_is_refused(url: str) -> None:
    assert problems_with(url) == (
        "--sandbox-url: would send credentials in the clear; use https (http is for loopback only)."
    )


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("api.example.com", id="no-scheme"),
        pytest.param("//api.example.com", id="no-scheme-but-slashes"),
        pytest.param("ftp://api.example.com", id="another-scheme"),
        pytest.param("https://", id="no-host"),
        pytest.param("https:///v0", id="path-without-a-host"),
        pytest.param("https://:443", id="port-without-a-host"),
        pytest.param("https:api.example.com", id="no-slashes"),
    ],
)
def test_what_is_no_https_url_is_refused_with_an_example(url: str) -> None:
    assert problems_with(url) == ("--sandbox-url: is not an https URL such as https://api.sandbox.getasset.com.")


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("https://[::1", id="open-bracket"),
        pytest.param("https://api.example.com:port", id="port-that-is-no-number"),
        pytest.param("https://api.example.com:65536", id="port-that-is-too-great"),
    ],
)
def test_what_is_no_url_at_all_is_refused(url: str) -> None:
    assert problems_with(url) == "--sandbox-url: not a URL such as https://api.sandbox.getasset.com."


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("https://api..example.com", id="empty-label"),
        pytest.param(f"https://{'a' * 64}.example.com", id="long-label"),
        pytest.param("https://256.1.1.1", id="no-address"),
        pytest.param("https://10.1.2", id="address-in-short"),
        pytest.param("https://api%2eexample.com", id="escaped"),
    ],
)
def test_a_host_that_nobody_can_have_is_refused(url: str) -> None:
    assert problems_with(url) == (
        "--sandbox-url: names a host that is neither an address nor a name that DNS can have."
    )


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("https://api.example.com?debug=1", id="query"),
        pytest.param("https://api.example.com/#top", id="fragment"),
        pytest.param("https://api.example.com?", id="empty-query"),
        pytest.param("https://api.example.com#", id="empty-fragment"),
    ],
)
def test_a_url_that_the_path_can_not_be_put_behind_is_refused(url: str) -> None:
    assert problems_with(url) == "--sandbox-url: must end with the path, without ? or #."


def test_no_url_at_all_is_refused() -> None:
    assert problems_with("").startswith("--sandbox-url: ")


@pytest.mark.parametrize(
    "url",
    [
        pytest.param(" https://api.example.com", id="space-before"),
        pytest.param("https://api.example.com ", id="space-behind"),
        pytest.param("https://api example.com", id="space-inside"),
        pytest.param("https://api.example.com\n", id="line-break-behind"),
        pytest.param("https://api.exam\nple.com", id="line-break-inside"),
        pytest.param("https://api.example.com\t/asset", id="tab"),
        pytest.param("https://api.exam\x00ple.com", id="nul"),
        pytest.param("https://api.ex\u00e4mple.com", id="umlaut"),
        pytest.param('https://api.example.com/"', id="quote"),
        pytest.param("https://api.example.com/\\", id="backslash"),
        pytest.param("https://api.example.com/'", id="apostrophe"),
        pytest.param("https://api.example.com/$(reboot)", id="dollar"),
    ],
)
def test_white_space_and_control_characters_in_a_url_are_refused(url: str) -> None:
    assert problems_with(url) == "--sandbox-url: has white space or characters that a URL has only as %XX."


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("https://admin:canary@api.example.com", id="user-and-password"),
        pytest.param("https://canary@api.example.com", id="user"),
        pytest.param("https://:canary@api.example.com", id="password"),
        pytest.param("http://admin:canary@api.example.com", id="in-the-clear"),
        pytest.param("ftp://admin:canary@api.example.com", id="another-scheme"),
        pytest.param("admin:canary@api.example.com", id="no-scheme"),
    ],
)
def test_a_password_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    assert problems_with(url) == "--sandbox-url: must not have a user or password in it."


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("//admin:canary@api.example.com:port", id="bad-port-too"),
        pytest.param("https://admin:canary@[api.example.com", id="no-url"),
    ],
)
def test_a_password_in_what_is_no_url_is_not_repeated_either(url: str) -> None:
    problems = problems_with(url)
    assert problems.startswith("--sandbox-url: ")
    assert "canary" not in problems


def test_all_that_is_wrong_is_told_together_a_line_for_each() -> None:
    with pytest.raises(ConfigError) as caught:
        settings_with("Shop", "books", "", sandbox_url="sandbox", production_url="http://api.getasset.com")
    assert str(caught.value).splitlines() == [
        "--namespace: 'Shop' is not a namespace's name; use lower-case letters, digits and '-'.",
        "--namespace: '' is not a namespace's name; use lower-case letters, digits and '-'.",
        "--sandbox-url: is not an https URL such as https://api.sandbox.getasset.com.",
        ("--production-url: would send credentials in the clear; use https (http is for loopback only)."),
    ]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        pytest.param(":8080", Address(EVERYWHERE, 8080), id="all"),
        pytest.param("[::]:8080", Address(EVERYWHERE, 8080), id="all, as IPv6 has it"),
        pytest.param("[0:0::0]:8080", Address(EVERYWHERE, 8080), id="all, at length"),
        pytest.param("0.0.0.0:8080", Address("0.0.0.0", 8080), id="all of IPv4"),
        pytest.param("127.0.0.1:0", Address("127.0.0.1", 0), id="any free port"),
        pytest.param("localhost:65535", Address("localhost", 65535), id="name"),
        pytest.param("[::1]:8080", Address("::1", 8080), id="IPv6"),
        pytest.param("[FD00:0::1]:8080", Address("fd00::1", 8080), id="IPv6, written differently"),
        pytest.param("[fe80::1%eth0]:8080", Address("fe80::1%eth0", 8080), id="IPv6 on one link"),
    ],
)
def test_an_address_to_listen_on_has_a_host_and_a_port(text: str, address: Address) -> None:
    settings = settings_with(health_address=text, metrics_address=text)
    assert (settings.health_address, settings.metrics_address) == (address, address)


@pytest.mark.parametrize("text", ["127.0.0.1:8080", "localhost:0", "[::1]:8080", "[::]:8080"])
def test_an_address_is_shown_as_it_is_written(text: str) -> None:
    assert str(settings_with(health_address=text).health_address) == text


@pytest.mark.parametrize(
    "text",
    [
        *("8080", ":", "host", "host:", "host:http", "::1:8080", ":::8080", "host:65536", ":65536", "ho st:1", ""),
        *("[::1:8080", "::1]:8080", "[host]:8080", "[]:8080", "[127.0.0.1]:8080", "[::1]8080", ":-1", ":8080 "),
    ],
)
@pytest.mark.parametrize("flag", ["health_address", "metrics_address"])
def test_any_other_address_is_refused(flag: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"--{flag.replace('_', '-')}: .* is not HOST:PORT, such as"):
        settings_with(**{flag: text})


def test_a_ca_file_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    for path in (empty, tmp_path / "none.pem"):
        why = "has no certificates in PEM form" if path is empty else "can't be read: file not found"
        with pytest.raises(ConfigError, match=f"--ca-file: {path} {why}\\."):
            settings_with(ca_file=str(path))


def test_a_lease_namespace_is_a_namespace() -> None:
    assert settings_with(lease_namespace="operators").lease_namespace == "operators"
    with pytest.raises(ConfigError, match="--lease-namespace: 'No' is not a namespace's name"):
        settings_with(lease_namespace="No")


@pytest.mark.parametrize("name", ["asset-token-operator", "a", "tokens.example.com", "0", "x" * 63])
def test_a_lease_has_an_objects_name(name: str) -> None:
    assert settings_with(lease_name=name).lease_name == name


@pytest.mark.parametrize("name", ["", "No", "-a", "a-", "a..b", "a/b", "a_b", "x" * 64, ".".join(["x" * 63] * 4)])
def test_what_names_no_lease_is_refused(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings_with(lease_name=name)
    assert str(caught.value) == f"--lease-name: {name!r} is not a Lease's name; use lower-case letters, digits and '-'."


@pytest.mark.parametrize("selector", SELECTORS)
def test_a_label_selector_is_kept_as_it_is(selector: str) -> None:
    assert settings_with(selector=selector).selector == selector


@pytest.mark.parametrize("selector", NO_SELECTORS)
def test_what_is_no_label_selector_is_refused(selector: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings_with(selector=selector)
    assert str(caught.value) == (f"--selector: {selector!r} is not a label selector, such as team=ledger,stage!=test.")
