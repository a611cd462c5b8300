import os

import pytest

from asset_token_operator.proxies import proxy_for

PROXY = "http://proxy.example.com:3128"
SERVER = "https://kube.example.com:6443"


@pytest.fixture(autouse=True)
def no_settings_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("variables", "proxy"),
    [
        pytest.param({}, None, id="none"),
        pytest.param({"HTTPS_PROXY": PROXY}, PROXY, id="upper case"),
        pytest.param({"https_proxy": PROXY}, PROXY, id="lower case"),
        pytest.param({"ALL_PROXY": PROXY}, PROXY, id="for all"),
        pytest.param({"ALL_PROXY": "http://other:1", "HTTPS_PROXY": PROXY}, PROXY, id="for https before all"),
        pytest.param({"HTTPS_PROXY": ""}, None, id="empty"),
        pytest.param({"HTTP_PROXY": PROXY}, None, id="for http only"),
        pytest.param({"HTTPS_PROXY": "proxy.example.com:3128"}, PROXY, id="no scheme"),
        pytest.param({"HTTPS_PROXY": "https://proxy.example.com"}, "https://proxy.example.com", id="over TLS"),
        pytest.param({"HTTPS_PROXY": PROXY, "NO_PROXY": "kube.example.com"}, None, id="exempt by name"),
        pytest.param({"HTTPS_PROXY": PROXY, "NO_PROXY": "kube.example.com:6443"}, None, id="exempt with its port"),
        pytest.param({"HTTPS_PROXY": PROXY, "NO_PROXY": "kube.example.com:443"}, PROXY, id="another port is exempt"),
        pytest.param({"HTTPS_PROXY": PROXY, "NO_PROXY": ".example.com"}, None, id="exempt by domain"),
        pytest.param({"HTTPS_PROXY": PROXY, "no_proxy": "a.com, kube.example.com"}, None, id="exempt in a list"),
        pytest.param({"HTTPS_PROXY": PROXY, "NO_PROXY": "*"}, None, id="all are exempt"),
        pytest.param({"HTTPS_PROXY": PROXY, "NO_PROXY": "example.org"}, PROXY, id="another is exempt"),
    ],
)
def test_is_what_the_variables_say(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], proxy: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert proxy_for(SERVER) == proxy


def test_who_is_named_in_the_url_is_no_part_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", "kube.example.com")

    assert proxy_for("https://me:canary@kube.example.com:6443") is None


def test_plain_http_goes_through_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    monkeypatch.setenv("ALL_PROXY", PROXY)

    assert proxy_for("http://127.0.0.1:8001") is None


@pytest.mark.parametrize(
    "proxy",
    [
        pytest.param("socks5://canary@proxy.example.com:1080", id="socks"),
        pytest.param("http://", id="no host"),
        pytest.param("ftp://canary@proxy.example.com", id="another scheme"),
    ],
)
def test_one_that_cannot_be_used_is_an_error_that_does_not_quote_it(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(ValueError, match="proxy") as caught:
        proxy_for(SERVER)

    assert "canary" not in str(caught.value)
