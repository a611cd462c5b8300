import pytest

from asset_token_operator.versions import ASSET_TOKENS, SECRETS, Versions


def test_versions_that_go_on_are_one_epoch() -> None:
    versions = Versions()
    for version in (0, 5, 5, 7):
        highest = versions.highest(SECRETS)
        versions.compare(SECRETS, version, highest)

    assert (versions.epoch, versions.highest(SECRETS)) == (0, 7)


def test_a_list_that_is_lower_than_what_was_known_begins_another() -> None:
    versions = Versions()
    versions.saw(SECRETS, 100)
    versions.compare(SECRETS, 60, 100)

    assert (versions.epoch, versions.highest(SECRETS)) == (1, 60)


def test_what_was_seen_while_a_list_was_asked_for_is_no_sign() -> None:
    versions = Versions()
    versions.saw(SECRETS, 100)
    highest = versions.highest(SECRETS)
    versions.saw(SECRETS, 120)
    versions.compare(SECRETS, 110, highest)

    assert (versions.epoch, versions.highest(SECRETS)) == (0, 120)


def test_of_several_that_find_it_at_once_the_first_counts() -> None:
    """The second asked before the epoch began."""
    versions = Versions()
    versions.saw(SECRETS, 100)
    versions.compare(SECRETS, 60, 100)
    versions.compare(SECRETS, 61, 100)

    assert versions.epoch == 1


def test_another_kind_may_be_in_another_etcd() -> None:
    versions = Versions()
    versions.saw(SECRETS, 10_000)
    versions.compare(ASSET_TOKENS, 60, versions.highest(ASSET_TOKENS))

    assert versions.epoch == 0


@pytest.mark.parametrize(
    ("listed", "known", "epoch"),
    [
        pytest.param(90, 90, 0, id="as it was known"),
        pytest.param(95, 90, 0, id="changed since"),
        pytest.param(90, 95, 1, id="as it was before"),
        pytest.param(90, 100, 1, id="as it was before a change of the list's own version"),
        pytest.param(90, 101, 0, id="changed by a write of our own since it was listed"),
        pytest.param(90, 0, 0, id="known in another epoch"),
    ],
)
def test_an_object_that_is_listed_as_it_was_before_a_change_that_the_list_has_passed_begins_another(
    listed: int, known: int, epoch: int
) -> None:
    """Versions may count on from beyond what they had reached when a backup is restored."""
    versions = Versions()
    versions.saw(SECRETS, 98)
    versions.compare(SECRETS, 100, 98, [(1, 1), (listed, known)])

    assert (versions.epoch, versions.highest(SECRETS)) == (epoch, 100)
