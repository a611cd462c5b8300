"""What Asset's answers mean, and what users are told of those that are no use."""

from __future__ import annotations

import base64
import codecs
import json
import traceback
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any, ClassVar

import pytest

from asset_token_operator.answers import (
    Claims,
    RateHeaders,
    Reply,
    TokenAnswer,
    gets_through,
    read_answer,
    read_claims,
    read_reply,
)
from asset_token_operator.errors import (
    AssetError,
    AssetUnavailableError,
    BrokenAnswerError,
    InvalidClientError,
    InvalidScopeError,
    RateLimitedError,
    RequestRefusedError,
)
from asset_token_operator.model import LONGEST_TOKEN, CredentialsRef, Environment
from asset_token_operator.refusals import REFUSALS
from tests.support.builders import NOW, a_jwt, a_spec

CANARY = "canary"
DEEP = "[" * 100_000
AGAIN = "tried again by itself."
NO_OBJECT = f"The answer of Asset sandbox is not a JSON object; {AGAIN}"
NO_TOKEN = f"The answer of Asset sandbox has no access_token; {AGAIN}"
NO_BEARER = f"The token of Asset sandbox is not a Bearer token; {AGAIN}"
TOO_LONG = f"The token of Asset sandbox is longer than 16384 characters; {AGAIN}"
NO_HEADER = f"The token of Asset sandbox has characters that no Authorization header may carry; {AGAIN}"
REFUSED_CREDENTIALS = (
    "Asset sandbox refused the credentials in Secret asset-credentials ({said}): check client_id and client_secret, and"
    " that they are sandbox's; each environment has its own."
)
MALFORMED = (
    "Asset sandbox found the request malformed ({said}): check spec.businessId, spec.resources and spec.lifetime."
)
OTHERWISE = "Asset sandbox refused the request (400): check the spec and the credentials in Secret asset-credentials."
REDIRECT = f"which is not followed with credentials; check --sandbox-url; {AGAIN}"


def a_body(**changes: Any) -> bytes:
    return json.dumps({"access_token": "token", "token_type": "Bearer", "expires_in": 3600} | changes).encode()


def answer_to(status: int, body: bytes, media_type: str | None = "application/json") -> TokenAnswer:
    return read_answer(Reply(status, body, media_type=media_type), a_spec())


def refusal(status: int, body: bytes) -> AssetError:
    with pytest.raises(AssetError) as caught:
        answer_to(status, body)
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    return caught.value


def broken(body: bytes) -> str:
    """What is said of an answer that came with 200 and is no use."""
    error = refusal(200, body)
    assert type(error) is BrokenAnswerError
    return str(error)


class TestAnAnswerInOrder:
    def test_it_is_read(self) -> None:
        answer = answer_to(200, a_body(scope="ledger:read ledger:create"))
        assert answer.access_token.get_secret_value() == "token"
        assert answer == TokenAnswer(
            answer.access_token, expires_in=3600, scopes=("ledger:create", "ledger:read"), claims=None
        )

    def test_a_jwt_is_read_for_what_it_says_of_itself(self) -> None:
        token = a_jwt({"exp": 1_777_640_400, "jti": "token-1", "scope": "ledger:read"})
        assert answer_to(200, a_body(access_token=token)).claims == Claims(
            exp=1_777_640_400, jti="token-1", scopes=("ledger:read",)
        )

    @pytest.mark.parametrize(
        "token_type",
        [
            pytest.param("Bearer", id="as-documented"),
            pytest.param("bearer", id="lower-case"),
            pytest.param("BEARER", id="upper-case"),
            pytest.param(None, id="null"),
        ],
    )
    def test_the_token_type_is_bearer_in_any_case(self, token_type: str | None) -> None:
        assert answer_to(200, a_body(token_type=token_type)).access_token.get_secret_value() == "token"

    def test_the_token_type_may_be_left_out(self) -> None:
        assert answer_to(200, b'{"access_token": "token"}').access_token.get_secret_value() == "token"

    @pytest.mark.parametrize(
        "token",
        [
            pytest.param("a", id="one-character"),
            pytest.param("A-Z.a-z_0-9~+/", id="all-kinds-of-characters"),
            pytest.param("abc=", id="padded"),
            pytest.param("abc==", id="padded-twice"),
            pytest.param("abc" + "=" * 10, id="padding-without-end"),
            pytest.param("x" * LONGEST_TOKEN, id="longest"),
        ],
    )
    def test_a_token_may_be_any_b64token(self, token: str) -> None:
        assert answer_to(200, a_body(access_token=token)).access_token.get_secret_value() == token

    @pytest.mark.parametrize(
        ("body", "expires_in"),
        [
            pytest.param(b'{"access_token": "token"}', None, id="left-out"),
            pytest.param(a_body(expires_in=None), None, id="null"),
            pytest.param(a_body(expires_in="3600"), "3600", id="string"),
            pytest.param(a_body(expires_in=1.5), 1.5, id="float"),
            pytest.param(a_body(expires_in=[1]), [1], id="list"),
        ],
    )
    def test_expires_in_is_handed_on_as_it_stands(self, body: bytes, expires_in: object) -> None:
        assert answer_to(200, body).expires_in == expires_in

    @pytest.mark.parametrize(
        ("scope", "scopes"),
        [
            pytest.param("b a", ("a", "b"), id="sorted"),
            pytest.param("a b a", ("a", "b"), id="repeated"),
            pytest.param(" a  b ", ("a", "b"), id="more-spaces"),
            pytest.param("", (), id="empty"),
            pytest.param(["b", "a", "a"], ("a", "b"), id="list"),
            pytest.param(["a", 7, None, ["b"]], ("a",), id="list-of-anything"),
            pytest.param(None, None, id="null"),
            pytest.param(7, None, id="number"),
            pytest.param({"a": True}, None, id="object"),
        ],
    )
    def test_scopes_are_read_where_they_are_readable(self, scope: object, scopes: tuple[str, ...] | None) -> None:
        assert answer_to(200, a_body(scope=scope)).scopes == scopes

    def test_scopes_that_are_left_out_are_not_known(self) -> None:
        assert answer_to(200, a_body()).scopes is None

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(codecs.BOM_UTF8 + a_body(), id="utf-8-with-a-byte-order-mark"),
            pytest.param(a_body().decode().encode("utf-16"), id="utf-16"),
            pytest.param(b"\r\n " + a_body() + b"\n", id="white-space-around"),
            pytest.param(a_body(übrig="\ud800", nested=[[[{}]]]), id="more-than-was-asked"),
            pytest.param(b'{"access_token": "first", "access_token": "token"}', id="last-of-two"),
            pytest.param(b'{"access_token": "token", "expires_in": NaN}', id="nan"),
        ],
    )
    def test_it_may_be_written_in_odd_ways(self, body: bytes) -> None:
        assert answer_to(200, body).access_token.get_secret_value() == "token"

    def test_it_does_not_show_the_token(self) -> None:
        answer = answer_to(200, a_body(access_token=f"{CANARY}-token"))
        assert CANARY not in f"{answer!r} {answer}"


class TestABrokenAnswer:
    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b" ", id="blank"),
            pytest.param(b"canary", id="text"),
            pytest.param(b"<html><body>canary</body></html>", id="html"),
            pytest.param(a_body(access_token="canary")[:-1], id="truncated"),
            pytest.param(a_body(access_token="canary") * 2, id="twice"),
            pytest.param(b'["canary"]', id="list"),
            pytest.param(b'"canary"', id="string"),
            pytest.param(b"null", id="null"),
            pytest.param(b"NaN", id="nan"),
            pytest.param(b"7", id="number"),
            pytest.param(b"9" * 5000, id="number-of-five-thousand-digits"),
            pytest.param(b'{"access_token": "canary", "expires_in": ' + b"9" * 5000 + b"}", id="huge-number-inside"),
            pytest.param(DEEP.encode(), id="deep"),
            pytest.param(b'{"canary": ' + DEEP.encode(), id="deep-inside"),
            pytest.param(b'{"access_token": "canary\xff"}', id="invalid-utf-8"),
            pytest.param(b'{"access_token": "canary\n"}', id="raw-line-break"),
            pytest.param(b'{"access_token": "canary", }', id="comma-too-many"),
            pytest.param(b"{'access_token': 'canary'}", id="single-quotes"),
            pytest.param(b"\x00\x00\x00\x00", id="zero-bytes"),
            pytest.param(codecs.BOM_UTF8, id="byte-order-mark-only"),
            pytest.param(b"access_token=canary&token_type=bearer", id="form"),
        ],
    )
    def test_what_is_no_json_object_is_told_so(self, body: bytes) -> None:
        assert broken(body) == NO_OBJECT

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b"{}", id="empty-object"),
            pytest.param(b'{"error": "invalid_client", "error_description": "canary"}', id="error-with-200"),
            pytest.param(b'{"canary": "canary"}', id="something-else"),
            pytest.param(b'{"Access_Token": "canary"}', id="another-case"),
            pytest.param(a_body(access_token=None), id="null"),
            pytest.param(a_body(access_token=""), id="empty-token"),
            pytest.param(a_body(access_token=" \n"), id="blank-token"),
            pytest.param(a_body(access_token=7), id="number"),
            pytest.param(a_body(access_token=True), id="true"),
            pytest.param(a_body(access_token=["canary"]), id="list"),
            pytest.param(a_body(access_token={"token": "canary"}), id="object"),
            pytest.param(b'{"access_token": "canary", "access_token": null}', id="last-of-two-is-null"),
        ],
    )
    def test_what_has_no_token_is_told_so(self, body: bytes) -> None:
        assert broken(body) == NO_TOKEN

    @pytest.mark.parametrize(
        "token_type",
        [
            pytest.param("MAC", id="mac"),
            pytest.param("DPoP", id="dpop"),
            pytest.param("Bearer ", id="space-behind"),
            pytest.param("", id="empty"),
            pytest.param("canary", id="unknown"),
            pytest.param(7, id="number"),
            pytest.param(False, id="false"),
            pytest.param(["Bearer"], id="list"),
        ],
    )
    def test_another_token_type_is_told_so(self, token_type: object) -> None:
        assert broken(a_body(access_token="canary", token_type=token_type)) == NO_BEARER

    @pytest.mark.parametrize(
        "token",
        [
            pytest.param("canary\n", id="line-break-behind"),
            pytest.param("\ncanary", id="line-break-before"),
            pytest.param("canary\r\nX-Injected: 1", id="another-header"),
            pytest.param("canary\x00", id="nul"),
            pytest.param("canary canary", id="space"),
            pytest.param(" canary", id="space-before"),
            pytest.param("canary\t", id="tab"),
            pytest.param("canary=canary", id="equals-sign-inside"),
            pytest.param("=canary", id="equals-sign-first"),
            pytest.param("=", id="nothing-but-padding"),
            pytest.param("canary,", id="comma"),
            pytest.param("canary:", id="colon"),
            pytest.param("canary%20", id="percent"),
            pytest.param("canary\u00e9", id="latin-1"),
            pytest.param("canary\uff10", id="digit-of-another-width"),
            pytest.param("canary\ud800", id="lone-surrogate"),
            pytest.param("canary\u2028", id="line-separator"),
        ],
    )
    def test_a_token_that_no_header_may_carry_is_told_so(self, token: str) -> None:
        assert broken(a_body(access_token=token)) == NO_HEADER

    @pytest.mark.parametrize(
        "token",
        [
            pytest.param("x" * (LONGEST_TOKEN + 1), id="by-one"),
            pytest.param(CANARY * LONGEST_TOKEN, id="by-far"),
            pytest.param("x" * LONGEST_TOKEN + "=", id="by-its-padding"),
        ],
    )
    def test_a_token_that_is_too_long_is_told_so(self, token: str) -> None:
        assert broken(a_body(access_token=token)) == TOO_LONG


class TestAFailure:
    def test_every_status_means_something(self) -> None:
        expected = (
            dict.fromkeys([*range(100, 200), *range(201, 300)], BrokenAnswerError)
            | dict.fromkeys(range(300, 400), AssetUnavailableError)
            | dict.fromkeys(range(400, 500), RequestRefusedError)
            | dict.fromkeys(range(500, 600), AssetUnavailableError)
            | {401: InvalidClientError, 404: AssetUnavailableError, 408: AssetUnavailableError, 429: RateLimitedError}
        )
        assert {status: type(refusal(status, b'{"detail": "no"}')) for status in expected} == expected

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b"", id="empty"),
            pytest.param(a_body(access_token="canary"), id="token"),
            pytest.param(b'["invalid_client"]', id="list"),
            pytest.param(b"<title>canary</title>", id="html"),
            pytest.param(DEEP.encode(), id="deep"),
            pytest.param(b'{"error": "canary\xff"}', id="invalid-utf-8"),
        ],
    )
    def test_a_refusal_that_is_not_the_token_services_own_word_is_an_outage(self, body: bytes) -> None:
        """A firewall or a page for maintenance refuses so; a bare 401 and a 429 mean what they say."""
        expected = dict.fromkeys(range(400, 600), AssetUnavailableError) | {
            401: InvalidClientError,
            429: RateLimitedError,
        }
        assert {status: type(refusal(status, body)) for status in expected} == expected
        assert {status: gets_through(Reply(status, body)) for status in expected} == {
            status: status in {401, 429} for status in expected
        }

    @pytest.mark.parametrize(
        ("status", "media_type", "body"),
        [
            pytest.param(200, "text/html", b"<title>canary</title>", id="html"),
            pytest.param(200, None, b"<title>canary</title>", id="html-that-says-nothing"),
            pytest.param(200, "text/plain", b"canary", id="text"),
            pytest.param(200, "application/json", b"", id="empty"),
            pytest.param(200, None, b'["canary"]', id="list-that-says-nothing"),
            pytest.param(202, "text/html", b"canary", id="202"),
            pytest.param(204, None, b"", id="204"),
            pytest.param(301, "application/json", a_body(access_token="canary"), id="301"),
            pytest.param(307, None, b"", id="307"),
            pytest.param(503, "application/json", b'{"detail": "canary"}', id="503"),
        ],
    )
    def test_what_cannot_be_a_token_services_answer_is_an_outage(
        self, status: int, media_type: str | None, body: bytes
    ) -> None:
        reply = Reply(status, body, media_type=media_type)
        with pytest.raises(AssetUnavailableError):
            read_answer(reply, a_spec())
        assert not gets_through(reply)

    @pytest.mark.parametrize(
        ("media_type", "body"),
        [
            pytest.param("application/json", a_body(access_token="canary")[:-9], id="truncated"),
            pytest.param("application/problem+json", b"canary", id="another-json"),
            pytest.param(None, b"{}", id="no-token"),
            pytest.param("text/html", b'{"access_token": ""}', id="named-wrongly"),
        ],
    )
    def test_json_is_an_answer_though_it_is_no_use(self, media_type: str | None, body: bytes) -> None:
        reply = Reply(200, body, media_type=media_type)
        with pytest.raises(BrokenAnswerError):
            read_answer(reply, a_spec())
        assert gets_through(reply)

    @pytest.mark.parametrize("status", [200, 204, 403], ids=str)
    @pytest.mark.parametrize(
        ("headers", "said"),
        [
            pytest.param({"content-type": "text/html; charset=utf-8"}, "text/html", id="html"),
            pytest.param({"content-type": "Text/HTML"}, "text/html", id="in-capitals"),
            pytest.param({}, "no content type", id="not-said"),
            pytest.param({"content-type": "canary canary"}, "no content type", id="no-media-type"),
            pytest.param({"content-type": "text/" + "x" * 99}, "no content type", id="too-long"),
        ],
    )
    def test_it_is_said_what_answered_instead(self, status: int, headers: dict[str, str], said: str) -> None:
        with pytest.raises(AssetUnavailableError) as caught:
            read_answer(read_reply(status, headers, b"<title>canary</title>"), a_spec())
        assert str(caught.value) == (
            f"Something in front of Asset sandbox answered instead of its token service ({status}, {said}),"
            f" such as a firewall or a page for maintenance; {AGAIN}"
        )

    @pytest.mark.parametrize(
        ("status", "said"),
        [
            pytest.param(100, f"Asset sandbox answered 100 instead of 200; {AGAIN}", id="100"),
            pytest.param(201, f"Asset sandbox answered 201 instead of 200; {AGAIN}", id="201"),
            pytest.param(204, f"Asset sandbox answered 204 instead of 200; {AGAIN}", id="204"),
            pytest.param(302, f"Asset sandbox answered with a redirect (302), {REDIRECT}", id="302"),
            pytest.param(307, f"Asset sandbox answered with a redirect (307), {REDIRECT}", id="307"),
            pytest.param(400, OTHERWISE, id="400"),
            pytest.param(401, REFUSED_CREDENTIALS.format(said="401"), id="401"),
            pytest.param(
                403,
                "Asset sandbox forbids the request (403): check spec.businessId, and what the credentials in Secret"
                " asset-credentials may do.",
                id="403",
            ),
            pytest.param(
                404,
                "There is no token endpoint at the operator's address of Asset sandbox (404): check --sandbox-url;"
                f" {AGAIN}",
                id="404",
            ),
            pytest.param(408, f"The request reached Asset sandbox too slowly (408); {AGAIN}", id="408"),
            pytest.param(422, MALFORMED.format(said="422"), id="422"),
            pytest.param(
                429,
                "The rate limit of the credentials in Secret asset-credentials at Asset sandbox is used up (429),"
                f" perhaps by other programs that use them; {AGAIN}",
                id="429",
            ),
            pytest.param(500, f"Asset sandbox failed (500); {AGAIN}", id="500"),
            pytest.param(503, f"Asset sandbox failed (503); {AGAIN}", id="503"),
        ],
    )
    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b'{"error": "canary", "error_description": "canary", "canary": 1}', id="rfc-6749"),
            pytest.param(b'{"detail": [{"loc": ["canary"], "msg": "canary", "input": "canary"}]}', id="fastapi"),
            pytest.param(b'{"error": {"code": "invalid_client"}}', id="error-is-an-object"),
            pytest.param(b'{"error": ["invalid_client"]}', id="error-is-a-list"),
        ],
    )
    def test_it_is_told_by_its_status_and_never_in_the_bodys_words(self, status: int, body: bytes, said: str) -> None:
        assert str(refusal(status, body)) == said

    @pytest.mark.parametrize(
        ("code", "kind", "sentence"),
        [
            pytest.param("invalid_client", InvalidClientError, REFUSED_CREDENTIALS, id="invalid_client"),
            pytest.param("invalid_grant", InvalidClientError, REFUSED_CREDENTIALS, id="invalid_grant"),
            pytest.param(
                "unauthorized_client",
                InvalidClientError,
                "Asset sandbox lets nobody request tokens with the credentials in Secret asset-credentials ({said}):"
                " check them in the Asset Dashboard, or use others.",
                id="unauthorized_client",
            ),
            pytest.param(
                "invalid_scope",
                InvalidScopeError,
                "Asset sandbox doesn't grant all scopes that were requested to the credentials in Secret"
                " asset-credentials ({said}): correct spec.scopes, or have them allowed for these credentials."
                " Requested: ledger:read.",
                id="invalid_scope",
            ),
            pytest.param(
                "invalid_target",
                RequestRefusedError,
                "Asset sandbox doesn't issue tokens for all resources to the credentials in Secret asset-credentials"
                " ({said}): correct spec.resources. Requested: none.",
                id="invalid_target",
            ),
            pytest.param("invalid_request", RequestRefusedError, MALFORMED, id="invalid_request"),
        ],
    )
    @pytest.mark.parametrize("status", [pytest.param(status, id=str(status)) for status in (400, 401, 403, 422)])
    def test_a_code_that_is_known_is_told_with_advice_whatever_the_status(
        self, status: int, code: str, kind: type[AssetError], sentence: str
    ) -> None:
        error = refusal(status, json.dumps({"error": code, "error_description": CANARY}).encode())
        assert (type(error), str(error)) == (kind, sentence.format(said=f"{status} {code}"))

    @pytest.mark.parametrize(
        "code",
        [
            pytest.param("INVALID_CLIENT", id="another-case"),
            pytest.param("invalid_client ", id="space-behind"),
            pytest.param("unsupported_grant_type", id="one-that-users-can-not-cause"),
            pytest.param("canary", id="unknown"),
            pytest.param("", id="empty"),
        ],
    )
    def test_a_code_that_is_not_known_is_not_repeated(self, code: str) -> None:
        error = refusal(400, json.dumps({"error": code}).encode())
        assert str(error) == OTHERWISE

    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            pytest.param(200, BrokenAnswerError, id="200"),
            pytest.param(201, BrokenAnswerError, id="201"),
            pytest.param(302, AssetUnavailableError, id="302"),
            pytest.param(429, RateLimitedError, id="429"),
            pytest.param(500, AssetUnavailableError, id="500"),
        ],
    )
    def test_a_code_counts_only_where_the_request_was_refused(self, status: int, kind: type[AssetError]) -> None:
        assert type(refusal(status, b'{"error": "invalid_client"}')) is kind

    def test_the_credentials_are_told_by_the_environment_the_secret_and_the_keys(self) -> None:
        ref = CredentialsRef("asset-credentials", "id", "secret")
        with pytest.raises(InvalidClientError) as caught:
            read_answer(Reply(401, b""), a_spec(environment=Environment.PRODUCTION, credentials=ref))
        assert str(caught.value) == (
            "Asset production refused the credentials in Secret asset-credentials (401): check id and secret, and that"
            " they are production's; each environment has its own."
        )

    def test_of_many_scopes_the_first_are_named(self) -> None:
        with pytest.raises(InvalidScopeError) as caught:
            read_answer(Reply(400, b'{"error": "invalid_scope"}'), a_spec(scopes=[f"s:{n}" for n in range(10, 22)]))
        assert str(caught.value).endswith(" Requested: s:10, s:11, s:12, s:13, s:14, s:15, s:16, s:17 and 4 more.")

    def test_no_known_code_is_left_untested(self) -> None:
        assert REFUSALS.keys() == {
            "invalid_client",
            "invalid_grant",
            "invalid_request",
            "invalid_scope",
            "invalid_target",
            "unauthorized_client",
        }


def segments(header: bytes, payload: bytes) -> str:
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (header, payload, b"signature"))


class TestClaims:
    @pytest.mark.parametrize(
        ("payload", "claims"),
        [
            pytest.param(
                {},
                Claims(exp=None, not_before=None, issued_at=None, jti=None, issuer=None, audience=(), scopes=None),
                id="nothing-said",
            ),
            pytest.param({"exp": 1_777_640_400}, Claims(exp=1_777_640_400), id="exp"),
            pytest.param({"exp": "soon"}, Claims(exp="soon"), id="exp-as-it-stands"),
            pytest.param(
                {"exp": 1, "iat": 9e99, "nbf": "x", "aud": 7},
                Claims(exp=1, not_before="x", issued_at=9e99),
                id="nothing-is-verified",
            ),
            pytest.param({"sub": 7, "iss": ["x"]}, Claims(), id="subject-that-is-no-string"),
            pytest.param({"iss": "https://api.getasset.com"}, Claims(issuer="https://api.getasset.com"), id="issuer"),
            pytest.param({"iss": ""}, Claims(), id="issuer-is-empty"),
            pytest.param({"aud": "a"}, Claims(audience=("a",)), id="audience"),
            pytest.param({"aud": ["b", "a", 7]}, Claims(audience=("b", "a")), id="audiences"),
            pytest.param({"nbf": 2, "iat": 1}, Claims(not_before=2, issued_at=1), id="nbf-and-iat"),
            pytest.param({"iat": 1}, Claims(issued_at=1), id="iat-is-no-nbf"),
            pytest.param({"jti": "token-1"}, Claims(jti="token-1"), id="jti"),
            pytest.param({"jti": ""}, Claims(), id="jti-is-empty"),
            pytest.param({"jti": 7}, Claims(), id="jti-is-a-number"),
            pytest.param({"scope": "b a"}, Claims(scopes=("a", "b")), id="scope"),
            pytest.param({"scope": ["b", "a"]}, Claims(scopes=("a", "b")), id="scope-as-a-list"),
            pytest.param({"scp": ["b", "a"]}, Claims(scopes=("a", "b")), id="scp"),
            pytest.param({"scp": "b a"}, Claims(scopes=("a", "b")), id="scp-as-a-string"),
            pytest.param({"scope": "a", "scp": ["b"]}, Claims(scopes=("a",)), id="scope-before-scp"),
            pytest.param({"scope": 7}, Claims(), id="scope-is-a-number"),
            pytest.param({"scope": None, "scp": ["a"]}, Claims(scopes=("a",)), id="scp-where-scope-is-null"),
            pytest.param({"scope": 7, "scp": ["a"]}, Claims(scopes=("a",)), id="scp-where-scope-is-unreadable"),
            pytest.param({"nested": {"exp": 1}}, Claims(), id="nested-claims-do-not-count"),
        ],
    )
    def test_they_are_read_but_not_verified(self, payload: object, claims: Claims) -> None:
        assert read_claims(a_jwt(payload)) == claims

    @pytest.mark.parametrize(
        "header",
        [
            pytest.param({"alg": "none"}, id="no-algorithm"),
            pytest.param({"alg": "canary"}, id="unknown-algorithm"),
            pytest.param({"typ": 7, "kid": "key-1"}, id="odd-header"),
        ],
    )
    def test_the_header_does_not_matter(self, header: dict[str, Any]) -> None:
        assert read_claims(a_jwt({"exp": 1}, header)) == Claims(exp=1)

    @pytest.mark.parametrize(
        "token",
        [
            pytest.param("opaque", id="opaque"),
            pytest.param("a.b", id="two-parts"),
            pytest.param("...", id="dots"),
            pytest.param(a_jwt(["exp"]), id="payload-is-a-list"),
            pytest.param(a_jwt("exp"), id="payload-is-a-string"),
            pytest.param(a_jwt(None), id="payload-is-null"),
            pytest.param(a_jwt({}, ["alg"]), id="header-is-a-list"),
            pytest.param(a_jwt({}, {"b64": False}), id="payload-elsewhere"),
            pytest.param(segments(b"{}", b""), id="payload-is-empty"),
            pytest.param(segments(b"{}", b"\xff"), id="payload-is-no-text"),
            pytest.param(segments(b"{}", b'{"exp": ' + b"9" * 5000 + b"}"), id="number-of-five-thousand-digits"),
            pytest.param(segments(b"{}", DEEP.encode()), id="payload-is-deep"),
            pytest.param(segments(b'{"x":' + DEEP.encode(), b"{}"), id="header-is-deep"),
            pytest.param(segments(b"canary", b"{}"), id="header-is-no-json"),
            pytest.param("e30.e.e30", id="payload-is-no-base64"),
        ],
    )
    def test_a_token_that_is_no_jwt_has_none(self, token: str) -> None:
        assert read_claims(token) is None

    def test_a_payload_may_be_nested(self) -> None:
        payload: dict[str, Any] = {"exp": 1}
        for _ in range(50):
            payload = {"exp": 1, "inner": [payload]}
        assert read_claims(a_jwt(payload)) == Claims(exp=1)


class TestReply:
    DATE = "Fri, 01 May 2026 12:00:00 GMT"
    RATE: ClassVar = {"x-ratelimit-limit": "300", "x-ratelimit-remaining": "299", "x-ratelimit-reset": "1777636845"}

    def test_it_is_read_with_what_its_headers_say(self) -> None:
        headers = {"date": self.DATE, "retry-after": "7", **self.RATE}
        assert read_reply(429, headers, b"body") == Reply(
            status=429,
            body=b"body",
            rate=RateHeaders(limit=300, remaining=299, reset=1_777_636_845, resets_in=timedelta(seconds=45)),
            date=NOW,
            retry_after=timedelta(seconds=7),
        )

    def test_it_is_read_without_any_header(self) -> None:
        assert read_reply(200, {}, b"") == Reply(200, b"", rate=None, date=None, retry_after=None)

    def test_it_does_not_show_its_body(self) -> None:
        assert CANARY not in repr(read_reply(200, {}, CANARY.encode()))

    @pytest.mark.parametrize(
        ("reset", "date", "resets_in"),
        [
            pytest.param("1777636845", DATE, 45, id="in-45-s-on-their-clock"),
            pytest.param("1777636800", DATE, 0, id="now"),
            pytest.param("1777636000", DATE, -1, id="past"),
            pytest.param("1777640400", DATE, 3600, id="in-an-hour"),
            pytest.param("45", DATE, 45, id="seconds-from-now"),
            pytest.param("99999999999", DATE, 60, id="far-ahead"),
            pytest.param("1777636845", None, 60, id="no-clock-to-compare-with"),
            pytest.param("1777636845", "yesterday", 60, id="unreadable-clock"),
        ],
    )
    def test_a_budget_begins_anew_when_its_headers_say(self, reset: str, date: str | None, resets_in: int) -> None:
        headers = {**self.RATE, "x-ratelimit-reset": reset} | ({} if date is None else {"date": date})
        rate = read_reply(200, headers, b"").rate
        assert rate is not None
        assert rate.resets_in == timedelta(seconds=resets_in)

    @pytest.mark.parametrize(
        ("limit", "remaining", "expected"),
        [
            pytest.param("300", "0", (300, 0), id="used-up"),
            pytest.param("300", "301", (300, 300), id="never-more-than-the-limit"),
            pytest.param("1", "1", (1, 1), id="least"),
        ],
    )
    def test_a_budget_is_read(self, limit: str, remaining: str, expected: tuple[int, int]) -> None:
        headers = {**self.RATE, "x-ratelimit-limit": limit, "x-ratelimit-remaining": remaining}
        rate = read_reply(200, headers, b"").rate
        assert rate is not None
        assert (rate.limit, rate.remaining) == expected

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param({"x-ratelimit-limit": "0"}, id="no-limit-at-all"),
            pytest.param({"x-ratelimit-remaining": "-1"}, id="less-than-nothing-left"),
            pytest.param({"x-ratelimit-limit": "many"}, id="word"),
            pytest.param({"x-ratelimit-limit": "9" * 401}, id="limit-too-large-for-a-float"),
            pytest.param({"x-ratelimit-reset": "1777636845.5"}, id="fraction"),
            pytest.param({"x-ratelimit-reset": ""}, id="empty"),
            pytest.param({"x-ratelimit-reset": "-1"}, id="reset-before-1970"),
            pytest.param({"x-ratelimit-reset": "100000000000"}, id="reset-too-far-ahead"),
            pytest.param({"x-ratelimit-reset": "1777636800000"}, id="reset-in-milliseconds"),
            pytest.param({"x-ratelimit-reset": "1" + "0" * 400}, id="reset-too-large-for-a-float"),
            pytest.param({"x-ratelimit-reset": "9" * 5000}, id="five-thousand-digits"),
        ],
    )
    def test_a_budget_that_makes_no_sense_is_as_good_as_none(self, change: dict[str, str]) -> None:
        assert read_reply(200, {"date": self.DATE, **self.RATE, **change}, b"").rate is None

    @pytest.mark.parametrize("name", [pytest.param(name, id=name) for name in RATE])
    def test_half_a_budget_is_as_good_as_none(self, name: str) -> None:
        headers = {known: value for known, value in self.RATE.items() if known != name}
        assert read_reply(200, headers, b"").rate is None

    @pytest.mark.parametrize(
        ("text", "moment"),
        [
            pytest.param("Fri, 01 May 2026 12:00:00 GMT", NOW, id="gmt"),
            pytest.param("Fri, 01 May 2026 14:00:00 +0200", NOW, id="offset"),
            pytest.param("Fri, 01 May 2026 12:00:00 -0000", NOW, id="unknown-zone-is-utc"),
            pytest.param("2026-05-01T12:00:00Z", None, id="iso-8601"),
            pytest.param("", None, id="empty"),
            pytest.param("Fri, 32 May 2026 12:00:00 GMT", None, id="no-such-day"),
            pytest.param("Fri, 01 May 99999999999999999999 12:00:00 GMT", None, id="absurd-year"),
        ],
    )
    def test_their_clock_is_read(self, text: str, moment: datetime | None) -> None:
        assert read_reply(200, {"date": text}, b"").date == moment

    @pytest.mark.parametrize(
        ("retry_after", "date", "seconds"),
        [
            pytest.param("7", None, 7, id="seconds"),
            pytest.param("0", None, 1, id="at-once-is-a-second"),
            pytest.param("86400", None, 86_400, id="longest"),
            pytest.param("86401", None, None, id="too-long"),
            pytest.param("9999999999", NOW, None, id="absurd"),
            pytest.param("9" * 400, None, None, id="more-digits-than-a-number-has"),
            pytest.param("1777636860", NOW, 60, id="unix-timestamp"),
            pytest.param("1777636860", None, None, id="unix-timestamp-on-an-unknown-clock"),
            pytest.param("1777636740", NOW, None, id="past-unix-timestamp"),
            pytest.param("Fri, 01 May 2026 12:01:00 GMT", NOW, 60, id="moment"),
            pytest.param("Fri, 01 May 2026 12:01:00 GMT", None, None, id="moment-on-an-unknown-clock"),
            pytest.param("Fri, 01 May 2026 12:01:00 GMT", NOW + timedelta(seconds=20), 40, id="moment-on-theirs"),
            pytest.param("Fri, 01 May 2026 11:00:00 GMT", NOW, None, id="past-moment"),
            pytest.param("Fri, 01 May 2099 12:00:00 GMT", NOW, None, id="moment-too-far-ahead"),
            pytest.param(None, NOW, None, id="not-said"),
            pytest.param("soon", NOW, None, id="word"),
            pytest.param("-7", NOW, None, id="negative"),
            pytest.param("7.5", NOW, None, id="fraction"),
            pytest.param("\u0667", NOW, None, id="digit-of-another-script"),
        ],
    )
    def test_it_says_how_long_to_wait(
        self, retry_after: str | None, date: datetime | None, seconds: int | None
    ) -> None:
        headers = {} if retry_after is None else {"retry-after": retry_after}
        headers |= {} if date is None else {"date": format_datetime(date, usegmt=True)}
        again = read_reply(429, headers, b"").retry_after
        assert again == (None if seconds is None else timedelta(seconds=seconds))
