from hypothesis import HealthCheck, settings

# What an example takes says nothing on a machine that runs other tests beside.
settings.register_profile("beside others", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("beside others")
