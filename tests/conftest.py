"""What holds for all tests: properties are checked without a clock, and on the same examples every time.

A busy machine must not make a property fail, so Hypothesis has no deadline and no opinion on slow examples; and a run
can be repeated, so its examples are derived from each test, not drawn. `HYPOTHESIS_PROFILE=explore` draws new ones.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "repeat", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "explore", deadline=None, print_blob=True, max_examples=1000, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))
