import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from sizing import profiles
from stacks.settings import deployment, pipeline
from tests import by_kind

# A shipped deployment's own names are for its users to choose, so tests that read one by name get others.
deployment.DEPLOYMENTS = by_kind.folder()
pipeline.PIPELINES = by_kind.folder() / "pipelines"
profiles.RECORDED = by_kind.folder() / "profiles.json"

# What an example takes says nothing on a machine that runs other tests beside.
settings.register_profile("beside others", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("beside others")


@pytest.fixture(autouse=True)
def _settings_stay() -> Iterator[None]:
    """Fail a test that leaves a setting in the environment, where a later test of the same worker would read it."""
    before = _settings()
    yield
    after = _settings()
    for name in after:
        del os.environ[name]
    os.environ.update(before)
    assert after == before, "the test changed environment variables and did not restore them"


def _settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "CDK_", "INFERENCE_"))}
