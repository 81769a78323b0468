"""Property tests draw the same examples on every run, so that the same code always gets the same verdict.

`HYPOTHESIS_PROFILE=explore` draws new ones, many more of them: for a soak after a change to a numeric core.
"""

import os

from hypothesis import settings

settings.register_profile("default", derandomize=True)
settings.register_profile("explore", derandomize=False, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
