"""What every test here starts from: no test fails because a machine is slow."""

from hypothesis import settings

settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
