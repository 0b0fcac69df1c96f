"""Shared by the language tables: prompts in a folder, for a tiny pair."""

import pytest

from listcoupling.experiments.language import protocol
from tests.experiments.language import fakes


@pytest.fixture
def folder(tmp_path, monkeypatch):
  monkeypatch.setattr(protocol, 'load_pair', lambda *_: fakes.pair())
  return fakes.write_prompts(tmp_path / 'data')
