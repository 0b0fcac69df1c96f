"""Names at the ends of curves: each once, in its colour, none on another."""

import numpy as np
from matplotlib import text

from listcoupling.experiments import plots


def test_curves_are_named_at_their_ends(tmp_path):
  rows = [
    {'K': k, 'name': f'curve {i}', 'x': x, 'y': 0.002 * i * x, 'y_se': 0.1}
    for k in (1, 2)
    for i in range(6)
    for x in (0.0, 1.0, 2.0)
  ]
  path = tmp_path / 'figure.png'
  colors = plots.RED, plots.BLUE, plots.GREEN, plots.PINK, plots.SKY, 'black'
  with plots.panels(
    path, rows, 'K', title=lambda row: f'{row["K"]}', labels=('x', 'y')
  ) as panels:
    for axes, own in panels:
      for i, color in enumerate(colors):
        curve = plots.Curve(f'curve {i}', color)
        mine = [r for r in own if r['name'] == curve.label]
        curve.of_rows(axes, mine, 'x', 'y')
    canvas = axes.figure
  first, last = canvas.axes
  assert not first.texts and not canvas.legends
  assert [t.get_text() for t in last.texts] == [f'curve {i}' for i in range(6)]
  assert [t.get_color() for t in last.texts] == list(colors)
  boxes = [text.Text.get_window_extent(t).bounds for t in last.texts]
  heights = sorted((box[1], box[3]) for box in boxes)  # not of the lines
  for (low, height), (above, _) in zip(heights, heights[1:]):
    assert low + height <= above + 1  # pixels
  assert path.stat().st_size and path.with_suffix('.pdf').stat().st_size


def test_names_tell_how_a_curve_is_drawn_and_stand_in_its_last_panel(tmp_path):
  rows = [{'K': k, 'x': x} for k in (1, 2) for x in (0.0, 1.0)]
  styles = {
    '○ open': ('-', 'o', {'markerfacecolor': 'white'}),
    '■ points': (None, 's', {}),
    '- - dashed': ('--', None, {}),
    '··· dotted': (':', None, {}),
    'plain': ('-', None, {}),
  }
  with plots.panels(
    tmp_path / 'x.png', rows, 'K', title=lambda row: '', labels=('x', 'y')
  ) as panels:
    for (axes, own), count in zip(panels, (5, 4)):  # 'plain' in one alone
      for i, (name, (line, marker, how)) in enumerate(styles.items()):
        if i < count:
          curve = plots.Curve(name.split()[-1], 'black', line, marker)
          curve.draw(axes, [row['x'] for row in own], [i, i], **how)
  first, last = ([t.get_text() for t in x.texts] for x in axes.figure.axes)
  assert last == list(styles)[:4] and first == ['plain']


def test_places_move_apart_no_further_than_they_must():
  rng = np.random.default_rng(0)
  for _ in range(50):
    places, gap = rng.uniform(size=7), 0.1
    found = plots.spread(places, gap)
    np.testing.assert_array_equal(np.argsort(found), np.argsort(places))
    assert np.diff(np.sort(found)).min() >= gap - 1e-9
    assert np.isclose(found.mean(), places.mean())
    # Nudged in any way that keeps the gaps it is no nearer to the places.
    best = np.sum((found - places) ** 2)
    for _ in range(200):
      other = found + rng.normal(0, 0.02, 7)
      if np.diff(np.sort(other)).min() >= gap:
        assert np.sum((other - places) ** 2) > best - 1e-12
  far = np.array([0.0, 1.0, 0.5])
  np.testing.assert_allclose(plots.spread(far, 0.1), far)
