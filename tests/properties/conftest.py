"""How thoroughly properties are tried: always the same examples, so that a run never fails by chance.

`HYPOTHESIS_PROFILE=thorough` tries ten times as many, and `fuzz` is for the three tests that read answers' bodies, of
which it makes 100,000; `make chaos` does both.
"""

import os

from hypothesis import HealthCheck, settings

# A slow machine must not fail a property, so nothing here depends on the time that an example takes.
settings.register_profile(
    "quick",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=2_000)
settings.register_profile("fuzz", settings.get_profile("quick"), max_examples=34_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
