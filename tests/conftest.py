"""What all tests share."""

from hypothesis import settings

# No deadline: on a machine that does other things as well, how long an example takes says nothing.
settings.register_profile("flowmm", deadline=None)
settings.load_profile("flowmm")
