"""Fixtures of all tests."""

import jax
import pytest


@pytest.fixture(scope='module', autouse=True)
def _release_compiled_programs():
  """A worker that keeps the programs of every module grows to 5 GB."""
  yield
  jax.clear_caches()
