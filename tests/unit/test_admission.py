import pytest

from asset_token_operator.admission import find_denial, find_silent_webhook, is_not_allowed

CANARY = "Y2FuYXJ5LWFjY2Vzcy10b2tlbg=="
OBJECT = 'secrets "ledger-writer-token" is forbidden: '


@pytest.mark.parametrize(
    ("message", "said"),
    [
        pytest.param(
            f"{OBJECT}exceeded quota: few-secrets, requested: count/secrets=1, used: count/secrets=5, limited: …=5",
            "ResourceQuota few-secrets is used up; raise it, or delete what isn't needed",
            id="quota",
        ),
        pytest.param(
            f"{OBJECT}status unknown for quota: few-secrets, resources: secrets",
            "ResourceQuota few-secrets denied it; check what it limits",
            id="quota that isn't counted yet",
        ),
        pytest.param(
            f"{OBJECT}failed quota: few-secrets: must specify {CANARY}",
            "ResourceQuota few-secrets denied it; check what it limits",
            id="quota that asks for something",
        ),
        pytest.param(
            f"{OBJECT}insufficient quota to consume: count/secrets",
            "the cluster admits it only where a ResourceQuota does; add one to the namespace",
            id="no quota",
        ),
        pytest.param(
            f"{OBJECT}ValidatingAdmissionPolicy 'no-tokens' with binding 'in-shops' denied request: {CANARY}",
            "ValidatingAdmissionPolicy no-tokens denied it (binding in-shops); let it admit what the operator writes",
            id="policy",
        ),
        pytest.param(
            f'admission webhook "validate.kyverno.svc-fail" denied the request: {CANARY}',
            "admission webhook validate.kyverno.svc-fail denied it; let it admit what the operator writes",
            id="webhook",
        ),
        pytest.param(
            'admission webhook "a.example.com" denied the request without explanation',
            "admission webhook a.example.com denied it; let it admit what the operator writes",
            id="webhook that says nothing",
        ),
        pytest.param(
            f'admission webhook "a.example.com" denied the request: {OBJECT}exceeded quota: {CANARY}, requested: ',
            "admission webhook a.example.com denied it; let it admit what the operator writes",
            id="webhook that says what a quota says",
        ),
        pytest.param(
            f"{OBJECT}unable to create new content in namespace shop because it is being terminated",
            "namespace shop is being deleted",
            id="namespace",
        ),
        pytest.param(
            f'assettokens.auth.getasset.com "a" is forbidden: exceeded quota: q, requested: {CANARY}',
            "ResourceQuota q is used up; raise it, or delete what isn't needed",
            id="of a status",
        ),
    ],
)
def test_who_denied_it_is_told_by_its_name_and_nothing_else(message: str, said: str) -> None:
    assert find_denial({"message": message}) == said


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(f"{CANARY} {OBJECT}exceeded quota: few-secrets, requested: ", id="not at the beginning"),
        pytest.param(f"{OBJECT}exceeded quota: {CANARY}, requested: ", id="no name"),
        pytest.param(f"{OBJECT}exceeded quota: {'a' * 300}, requested: ", id="a name that is too long"),
        pytest.param(f'admission webhook "{CANARY}" denied the request', id="no webhook's name"),
        pytest.param(f"{OBJECT}{CANARY}", id="an admission plugin's own words"),
        pytest.param('secrets "a" is forbidden: User "canary" cannot patch resource "secrets"', id="roles"),
        pytest.param("", id="nothing"),
        pytest.param(None, id="no message"),
        pytest.param({"a": CANARY}, id="no text"),
    ],
)
def test_what_names_nobody_is_no_denial(message: object) -> None:
    assert find_denial({"message": message}) is None
    assert find_silent_webhook({"message": message}) is None


def test_a_webhook_that_did_not_answer_is_found() -> None:
    message = 'Internal error occurred: failed calling webhook "a.example.com": failed to call webhook: Post "https://…'

    assert find_silent_webhook({"message": message}) == "a.example.com"
    assert find_silent_webhook({}) is None


def test_what_the_roles_do_not_allow_is_told_from_what_was_denied() -> None:
    assert is_not_allowed({"message": f'{OBJECT}User "system:serviceaccount:shop:operator" cannot patch resource'})
    assert not is_not_allowed({"message": f"{OBJECT}exceeded quota: a, requested: "})
