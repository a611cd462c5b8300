"""The fixtures of the tests on a real API server serve these too."""

from tests.cluster.conftest import asset, operator, operator_for, shop

__all__ = ["asset", "operator", "operator_for", "shop"]
