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
