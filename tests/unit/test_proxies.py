"""Which proxy the variables name, and for which servers, by the rules of Go's golang.org/x/net/http/httpproxy."""

import base64
import os
import traceback
from typing import Final

import pytest

from asset_token_operator.proxies import Proxy, ProxyError, proxy_for, read_proxy

PROXY: Final = "http://proxy.example.com:3128"
SERVER: Final = "https://kube.example.com:6443"
PLAIN: Final = "http://kube.example.com:8080"


@pytest.fixture(autouse=True)
def no_settings_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name == "REQUEST_METHOD":
            monkeypatch.delenv(name)


def where(proxy: Proxy | None) -> str | None:
    return None if proxy is None else proxy.url


@pytest.mark.parametrize(
    ("variables", "proxy"),
    [
        pytest.param({}, None, id="none"),
        pytest.param({"HTTPS_PROXY": PROXY}, PROXY, id="upper case"),
        pytest.param({"https_proxy": PROXY}, PROXY, id="lower case"),
        pytest.param({"https_proxy": "http://other:1", "HTTPS_PROXY": PROXY}, PROXY, id="upper before lower case"),
        pytest.param({"https_proxy": PROXY, "HTTPS_PROXY": ""}, PROXY, id="an empty one is none"),
        pytest.param({"HTTPS_PROXY": "  "}, None, id="blanks are none"),
        pytest.param({"ALL_PROXY": PROXY}, PROXY, id="for all"),
        pytest.param({"all_proxy": PROXY}, PROXY, id="for all in lower case"),
        pytest.param({"ALL_PROXY": "http://other:1", "https_proxy": PROXY}, PROXY, id="for https before all"),
        pytest.param({"HTTPS_PROXY": ""}, None, id="empty"),
        pytest.param({"HTTP_PROXY": PROXY}, None, id="for http only"),
        pytest.param({"HTTPS_PROXY": "proxy.example.com:3128"}, PROXY, id="no scheme"),
        pytest.param({"HTTPS_PROXY": "HTTP://Proxy.Example.com:3128/"}, PROXY, id="capitals and a slash"),
        pytest.param({"HTTPS_PROXY": f" {PROXY}\n"}, PROXY, id="blanks around it"),
        pytest.param({"HTTPS_PROXY": "proxy"}, "http://proxy:80", id="a bare name"),
        pytest.param({"HTTPS_PROXY": "https://proxy.example.com"}, "https://proxy.example.com:443", id="over TLS"),
        pytest.param({"HTTPS_PROXY": "http://[fd00::9]:3128"}, "http://[fd00::9]:3128", id="an IPv6 address"),
        pytest.param({"HTTPS_PROXY": "[fd00::9]:3128"}, "http://[fd00::9]:3128", id="an IPv6 address, no scheme"),
        pytest.param({"HTTPS_PROXY": "http://bücher.example"}, "http://xn--bcher-kva.example:80", id="beyond ASCII"),
    ],
)
def test_is_what_the_variables_say(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], proxy: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert where(proxy_for(SERVER)) == proxy


@pytest.mark.parametrize(
    ("variables", "proxy"),
    [
        pytest.param({"HTTP_PROXY": PROXY}, PROXY, id="upper case"),
        pytest.param({"http_proxy": PROXY}, PROXY, id="lower case"),
        pytest.param({"ALL_PROXY": PROXY}, PROXY, id="for all"),
        pytest.param({"HTTPS_PROXY": PROXY}, None, id="for https only"),
        pytest.param({"HTTP_PROXY": PROXY, "REQUEST_METHOD": "GET"}, None, id="a client of a web server may set it"),
        pytest.param({"http_proxy": PROXY, "REQUEST_METHOD": "GET"}, PROXY, id="it can't in lower case"),
        pytest.param({"HTTP_PROXY": PROXY, "NO_PROXY": "kube.example.com:8080"}, None, id="exempt with its port"),
    ],
)
def test_of_plain_http_is_what_the_variables_for_it_say(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], proxy: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert where(proxy_for(PLAIN)) == proxy


CLUSTER: Final = "127.0.0.0/8,10.96.0.0/12,.svc,.cluster.local,fd00:10:96::/112,192.168.7.9:6443"


@pytest.mark.parametrize(
    ("exempt", "server", "passed_by"),
    [
        # names
        pytest.param("kube.example.com", "kube.example.com:6443", True, id="itself"),
        pytest.param("KUBE.example.COM", "kube.example.com", True, id="in capitals"),
        pytest.param("example.com", "kube.example.com", True, id="a domain means what is below"),
        pytest.param("example.com", "notexample.com", False, id="a domain means no name that ends like it"),
        pytest.param(".example.com", "kube.example.com", True, id="with a dot: what is below"),
        pytest.param(".example.com", "example.com", False, id="with a dot: not itself"),
        pytest.param("*.example.com", "a.kube.example.com", True, id="with a star: what is below"),
        pytest.param("*.example.com", "example.com", False, id="with a star: not itself"),
        pytest.param("*example.com", "kube.example.com", False, id="a star without a dot means nothing"),
        pytest.param("a.com, kube.example.com", "kube.example.com", True, id="in a list with blanks"),
        pytest.param("a.com kube.example.com", "kube.example.com", False, id="blanks separate nothing"),
        pytest.param("bücher.example", "xn--bcher-kva.example", True, id="beyond ASCII"),
        pytest.param("example.com.", "kube.example.com", False, id="a dot at the end is part of the name"),
        # all
        pytest.param("*", "kube.example.com", True, id="all"),
        pytest.param("a.com, * ,b.com", "10.1.2.3", True, id="all, in a list"),
        pytest.param("", "kube.example.com", False, id="none"),
        pytest.param(" ,,", "kube.example.com", False, id="nothing in a list"),
        # ports
        pytest.param("kube.example.com:6443", "kube.example.com:6443", True, id="its port"),
        pytest.param("kube.example.com:443", "kube.example.com", True, id="the port that isn't written"),
        pytest.param("kube.example.com:443", "kube.example.com:6443", False, id="another port"),
        pytest.param(".example.com:6443", "kube.example.com:6443", True, id="a domain with a port"),
        pytest.param("10.1.2.3:6443", "10.1.2.3:6443", True, id="an address with its port"),
        pytest.param("10.1.2.3:443", "10.1.2.3:6443", False, id="an address with another port"),
        pytest.param(":6443", "kube.example.com:6443", False, id="a port alone means nothing"),
        pytest.param("kube.example.com:", "kube.example.com:6443", True, id="no port behind the colon"),
        # networks
        pytest.param("10.0.0.0/8", "10.1.2.3:6443", True, id="a network, whatever the port"),
        pytest.param("10.9.9.9/8", "10.1.2.3", True, id="a network by any of its addresses"),
        pytest.param("10.0.0.0/16", "10.1.2.3", False, id="another network"),
        pytest.param("0.0.0.0/0", "10.1.2.3", True, id="all of IPv4"),
        pytest.param("0.0.0.0/0", "kube.example.com", False, id="no name is in a network"),
        pytest.param("0.0.0.0/0", "[fd00::1]", False, id="no IPv6 address is in one of IPv4"),
        pytest.param("10.0.0.0/255.0.0.0", "10.1.2.3", False, id="a mask is no network"),
        pytest.param("10.0.0.0/33", "10.1.2.3", False, id="an impossible network"),
        pytest.param("10.", "10.1.2.3", False, id="the beginning of an address"),
        pytest.param("3", "10.1.2.3", False, id="the end of an address is no domain"),
        # IPv6
        pytest.param("fd00::/8", "[fd00::1]:6443", True, id="an IPv6 network"),
        pytest.param("fd00::1", "[fd00::1]", True, id="an IPv6 address"),
        pytest.param("FD00:0:0::1", "[fd00::1]", True, id="an IPv6 address, written differently"),
        pytest.param("[fd00::1]", "[fd00::1]", True, id="an IPv6 address in brackets"),
        pytest.param("[fd00::1]:6443", "[fd00::1]:6443", True, id="an IPv6 address with its port"),
        pytest.param("[fd00::1]:443", "[fd00::1]:6443", False, id="an IPv6 address with another port"),
        pytest.param("fd00::2", "[fd00::1]", False, id="another IPv6 address"),
        pytest.param("10.0.0.0/8", "[::ffff:10.1.2.3]", True, id="an IPv4 address in IPv6"),
        pytest.param("::ffff:10.0.0.0/104", "10.1.2.3", True, id="an IPv4 network in IPv6"),
        # as clusters set it
        pytest.param(CLUSTER, "10.96.0.1", True, id="cluster: the API server"),
        pytest.param(CLUSTER, "[fd00:10:96::1]", True, id="cluster: the API server, IPv6"),
        pytest.param(CLUSTER, "kubernetes.default.svc", True, id="cluster: the API server's name"),
        pytest.param(CLUSTER, "192.168.7.9:6443", True, id="cluster: a node"),
        pytest.param(CLUSTER, "10.112.0.1", False, id="cluster: beside its network"),
        pytest.param(CLUSTER, "api.getasset.com", False, id="cluster: Asset"),
        pytest.param(f".{'ü' * 70}", "10.96.0.1", False, id="a name that DNS can't have"),
        # this machine
        pytest.param("", "localhost:6443", True, id="localhost"),
        pytest.param("", "LOCALHOST:6443", True, id="localhost in capitals"),
        pytest.param("", "127.0.0.1:6443", True, id="loopback"),
        pytest.param("", "127.8.9.1", True, id="another address of loopback"),
        pytest.param("", "[::1]:6443", True, id="loopback, IPv6"),
        pytest.param("", "[::ffff:127.0.0.1]", True, id="loopback, IPv4 in IPv6"),
        pytest.param("", "localhost.example.com", False, id="a name that begins like localhost"),
        pytest.param("", "kube.localhost", False, id="a name that ends like localhost"),
        # forms that somebody might write
        pytest.param("*", "[fe80::1%25eth0]:6443", True, id="all, an address on one link"),
        pytest.param("fe80::/10", "[fe80::1%25eth0]:6443", True, id="a network, an address on one link"),
        pytest.param("kube.example.com.", "kube.example.com.:6443", True, id="a dot at both ends"),
        pytest.param("kube.example.com", "kube.example.com.:6443", False, id="a dot at the server's end"),
        pytest.param("https://kube.example.com", "kube.example.com", False, id="a URL is no name"),
        pytest.param("kube.example.com/", "kube.example.com", False, id="nor with a slash"),
        pytest.param("10.0.0.0/8:6443", "10.1.2.3:6443", False, id="a network has no port"),
        pytest.param("[fd00::]/8", "[fd00::1]", False, id="a network has no brackets"),
        pytest.param("kube.example.com:https", "kube.example.com", False, id="a port has no name"),
        pytest.param("*.", "kube.example.com", False, id="a star and a dot"),
        pytest.param(".", "kube.example.com", False, id="a dot"),
        pytest.param("BÜCHER.example", "xn--bcher-kva.example", True, id="beyond ASCII, in capitals"),
        pytest.param("010.001.002.003", "10.1.2.3", False, id="an address with zeros in front"),
    ],
)
@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
def test_a_server_is_exempt_as_go_reads_the_list(
    monkeypatch: pytest.MonkeyPatch, variable: str, exempt: str, server: str, *, passed_by: bool
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv(variable, exempt)

    assert where(proxy_for(f"https://{server}")) == (None if passed_by else PROXY)


def test_the_list_in_capitals_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", "example.org")
    monkeypatch.setenv("no_proxy", "*")

    assert where(proxy_for(SERVER)) == PROXY


def test_who_is_named_in_the_url_is_no_part_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", "kube.example.com")

    assert proxy_for("https://me:canary@kube.example.com:6443") is None


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize(
    "proxy",
    [
        pytest.param("socks5://canary@proxy.example.com:1080", id="socks"),
        pytest.param("SOCKS5H://me:canary@proxy.example.com", id="socks with names"),
        pytest.param("ftp://canary@proxy.example.com", id="another scheme"),
        pytest.param("://canary@proxy.example.com", id="an empty scheme"),
    ],
)
def test_one_that_speaks_something_else_is_said_in_a_sentence_that_does_not_quote_it(
    monkeypatch: pytest.MonkeyPatch, name: str, proxy: str
) -> None:
    monkeypatch.setenv(name, proxy)
    with pytest.raises(ProxyError) as caught:
        proxy_for(SERVER)

    assert str(caught.value) == (
        f"{name} names a proxy of another kind than http:// and https://, which is not supported; set one of these."
    )


@pytest.mark.parametrize(
    "proxy",
    [
        pytest.param("http://", id="no host"),
        pytest.param("http://canary@", id="no host behind a login"),
        pytest.param("http://canary@proxy:port", id="a port that is no number"),
        pytest.param("http://canary@proxy:65536", id="a port that is too great"),
        pytest.param("http://canary@[fd00::1", id="an open bracket"),
        pytest.param("http://canary@pro xy:3128", id="a blank inside"),
        pytest.param("http://me:canary@fd00::1:3128", id="IPv6 without brackets"),
        pytest.param("me:can/ary@proxy:3128", id="a password that should have been escaped"),
        pytest.param("http://canary@%70roxy", id="an escaped host"),
        pytest.param("http://canary@256.1.1.1:3128", id="an address that is none"),
        pytest.param("http://canary@10.1:3128", id="an address in short"),
        pytest.param("http://canary@my..proxy:3128", id="an empty label"),
        pytest.param(f"http://canary@{'a' * 64}.example", id="a long label"),
        pytest.param(f"http://canary@{'ü' * 70}", id="a name that DNS can't have"),
    ],
)
def test_one_that_makes_no_sense_is_said_in_a_sentence_that_does_not_quote_it(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(ProxyError) as caught:
        proxy_for(SERVER)

    assert str(caught.value) == "HTTPS_PROXY is not the URL of a proxy, such as http://proxy.example.com:3128."
    assert "canary" not in "".join(traceback.format_exception(caught.value))


def test_one_that_makes_no_sense_is_no_harm_to_a_server_that_is_exempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy.example.com:1080")
    monkeypatch.setenv("NO_PROXY", "10.96.0.0/12")

    assert proxy_for("https://10.96.0.1") is None


@pytest.mark.parametrize(
    ("login", "said"),
    [
        pytest.param("me:canary", b"me:canary", id="user and password"),
        pytest.param("me", b"me:", id="user"),
        pytest.param(":canary", b":canary", id="password"),
        pytest.param("me:c%40n%3Ary%2F", b"me:c@n:ry/", id="escaped"),
        pytest.param("d%C3%BC:p%C3%A4ss", "dü:päss".encode(), id="escaped, beyond ASCII"),
        pytest.param("dü:päss密", "dü:päss密".encode(), id="beyond ASCII"),
        pytest.param("me:c@nary", b"me:c@nary", id="an at-sign that isn't escaped"),
        pytest.param("me:%FF", b"me:\xff", id="no text at all"),
    ],
)
def test_a_login_is_told_to_the_proxy_and_nobody_else(login: str, said: bytes) -> None:
    proxy = read_proxy(f"http://{login}@proxy.example.com:3128", "HTTPS_PROXY")

    assert proxy.url == PROXY
    assert proxy.authorization == f"Basic {base64.b64encode(said).decode()}"
    assert proxy.authorization not in f"{proxy} {proxy!r}"
    assert "nary" not in f"{proxy} {proxy!r}"


def test_one_without_a_login_is_told_none() -> None:
    assert read_proxy(PROXY, "HTTPS_PROXY").authorization is None
