"""Pictures of the image codec: what is in them and that it fits."""

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import colors

from listcoupling.experiments import plots
from listcoupling.experiments.images import figures


@pytest.fixture
def drawn(monkeypatch):
  """Figures that are drawn and the place of their heading, by file."""
  found, figure = {}, plots.figure

  @contextlib.contextmanager
  def watched(path, size):
    with figure(path, size) as canvas:
      yield canvas
      canvas.canvas.draw()
      heading = canvas._suptitle  # in the style of the figure
      found[path.name] = canvas, heading and heading.get_window_extent()

  monkeypatch.setattr(plots, 'figure', watched)
  return found


def test_the_heading_of_examples_fits_two_decoders(tmp_path, drawn):
  rng, found = np.random.default_rng(0), np.array([[1, 0], [1, 1], [0, 0]])
  left, right = rng.uniform(size=(2, 3, 8, 4))
  sent = SimpleNamespace(
    images=rng.uniform(size=(3, 2, 8, 4)), found=found.astype(bool),
    error=rng.uniform(size=(3, 2)),
  )  # fmt: skip
  figures.examples(
    SimpleNamespace(left=left, right=right), rng.uniform(size=(3, 2, 3, 3)),
    sent, tmp_path / 'examples.png', title='lists, 4 bits to 2 decoders',
    choice='codeword',
  )  # fmt: skip
  canvas, heading = drawn['examples.png']
  assert 0 <= heading.x0 and heading.x1 <= canvas.bbox.width
  words = ' '.join(canvas._suptitle.get_text().split())
  assert (
    "lists, 4 bits to 2 decoders: green = a decoder with the encoder's "
    in (words)
    and 'codeword, orange = with another' in words
  )
  frames = [
    [colors.to_hex(axis.spines['top'].get_edgecolor()) for axis in row[3::2]]
    for row in np.reshape(canvas.axes, (3, 6))  # an image each, in order
  ]
  hues = np.array([plots.ORANGE, plots.GREEN])
  assert frames == np.char.lower(hues)[found].tolist()
  whole, source = (axis.get_window_extent() for axis in canvas.axes[:2])
  assert whole.height == pytest.approx(source.height, abs=1)  # one scale
  assert whole.width == pytest.approx(2 * source.width, abs=1)
