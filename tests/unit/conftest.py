"""What several of the unit tests stand on."""

import pytest

from flowmm.records import ModelOptions


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelOptions:
    """A tiny language model of random weights."""
    from tests.conformance.folders import make_folder  # imports transformers, which most of these tests do without

    return ModelOptions(str(make_folder("qwen2", tmp_path_factory.mktemp("models") / "tiny")), device="cpu")


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The user's own folder of profiles, empty."""
    monkeypatch.setattr("platformdirs.user_config_dir", lambda name: str(tmp_path / name))
    for kind in ("methods", "models"):
        (tmp_path / "flowmm" / "profiles" / kind).mkdir(parents=True)
    return tmp_path / "flowmm" / "profiles"
