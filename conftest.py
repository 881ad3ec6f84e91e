"""What holds for the tests of every room: how long an example takes says something of the machine and nothing of us."""

from hypothesis import HealthCheck, settings

settings.register_profile("house", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")
