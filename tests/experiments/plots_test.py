"""One legend of all panels: each curve once, as it is drawn, beside them."""

from listcoupling.experiments import plots

_CURVES = {
  'open': plots.Curve('open', plots.RED, '-', 'o', hollow=True),
  'points': plots.Curve('points', plots.BLUE, None, 's'),
  'dashed': plots.Curve('dashed', plots.GREEN, '--'),
  'first alone': plots.Curve('first alone', plots.PINK, ':'),
}


def _drawn(path, curves):
  """A figure of two panels; the last curve stands in the first alone."""
  rows = [{'K': k, 'x': x} for k in (1, 2) for x in (0.0, 1.0)]
  with plots.panels(
    path, rows, 'K', title=lambda row: f'{row["K"]}', labels=('x', 'y')
  ) as panels:
    for (axes, own), count in zip(panels, (4, 3)):
      for height, curve in list(enumerate(curves))[:count]:
        mine = [row | {'y': height, 'y_se': 0.1} for row in own]
        curve.of_rows(axes, mine, 'x', 'y')
  return axes.figure


def test_each_curve_is_named_once_as_it_is_drawn(tmp_path):
  path = tmp_path / 'figure.png'
  (legend,) = _drawn(path, _CURVES.values()).legends
  assert [text.get_text() for text in legend.get_texts()] == list(_CURVES)
  for line, curve in zip(legend.get_lines(), _CURVES.values(), strict=True):
    style = line.get_color(), line.get_linestyle(), line.get_marker()
    wanted = curve.color, curve.line or 'None', curve.marker or 'None'
    assert style == wanted
    if curve.marker:
      hollow = line.get_markerfacecolor() == 'white'
      assert hollow == curve.hollow
  assert path.stat().st_size and path.with_suffix('.pdf').stat().st_size


def test_the_legend_covers_no_panel_and_fits(tmp_path):
  canvas = _drawn(tmp_path / 'figure.png', _CURVES.values())
  box = canvas.legends[0].get_window_extent()
  right = max(axes.get_window_extent().x1 for axes in canvas.axes)
  assert right < box.x0 and box.x1 <= canvas.bbox.x1
  assert canvas.bbox.y0 <= box.y0 and box.y1 <= canvas.bbox.y1


def test_panels_without_names_have_no_legend(tmp_path):
  assert not _drawn(tmp_path / 'figure.png', []).legends


def test_names_stand_in_the_order_of_first_drawing(tmp_path):
  """With or without bars; what the second panel adds stands last."""
  rows = [{'K': k, 'x': x, 'y': 0.0} for k in (1, 2) for x in (0.0, 1.0)]
  path = tmp_path / 'figure.png'
  with plots.panels(path, rows, 'K', labels=('x', 'y')) as panels:
    for (axes, own), last in zip(panels, ('level', 'dashed')):
      _CURVES['open'].of_rows(axes, own, 'x', 'y')
      axes.plot([0, 1], [1, 2], label='plain')
      axes.plot([0, 1], [2, 1])  # without a name
      _CURVES['points'].of_rows(axes, own, 'x', 'y')
      axes.axhline(1, label=last)
  names = [text.get_text() for text in axes.figure.legends[0].get_texts()]
  assert names == ['open', 'plain', 'points', 'level', 'dashed']
