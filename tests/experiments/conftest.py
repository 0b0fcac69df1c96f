"""Figures as they are drawn: files say little of what is on them."""

import contextlib
import pathlib

import pytest

from listcoupling.experiments import plots


@pytest.fixture
def drawn(monkeypatch):
  """Axes of every figure, by the name of its file."""
  found, figure = {}, plots.figure

  @contextlib.contextmanager
  def watched(path, *args, **kwargs):
    with figure(path, *args, **kwargs) as canvas:
      yield canvas
    found[pathlib.Path(path).name] = canvas.axes

  monkeypatch.setattr(plots, 'figure', watched)
  return found
