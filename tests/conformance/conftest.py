"""What the conformance tests share."""

import pytest

from tests.conformance.readings import Readings


@pytest.fixture(scope="session")
def readings(tmp_path_factory: pytest.TempPathFactory) -> Readings:
    return Readings(tmp_path_factory.mktemp("readings"))
