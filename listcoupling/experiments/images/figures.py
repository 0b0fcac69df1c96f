"""Pictures of the image codec: rate against distortion, and examples."""

import itertools
import textwrap

import numpy as np
from matplotlib import ticker

from listcoupling.experiments import plots

_CURVES = {
  'gls': plots.Curve('GLS', plots.RED, '-', 'o'),
  'gls, G = K': plots.Curve('GLS, a group each', plots.PINK, '-', 'v'),
  'shared_race': plots.Curve('one shared race', plots.ORANGE, '--', 's'),
  'gls_kmeans': plots.Curve('GLS, k-means labels', plots.BLUE, '-.', '^'),
  'gls_kmeans, G = K': plots.Curve(
    'GLS, k-means labels, a group each', plots.SKY, '-.', 'x'
  ),
  'lattice': plots.Curve('lattice', plots.INDIGO, '--', 'P'),
  'list_quantiser': plots.Curve('list quantiser', plots.GREEN, '-', 'D'),
  'list_quantiser, chosen bins': plots.Curve(
    'list quantiser, bins', plots.BLACK, '--', '+'
  ),
}
# Colour and marker of the curves of `sweep`, in their order.
_SWEEP = (
  (plots.BLUE, 'o'),
  (plots.ORANGE, 's'),
  (plots.GREEN, '^'),
  (plots.PINK, 'D'),
  (plots.SKY, 'v'),
  (plots.BLACK, 'x'),
)


def _curves(row) -> list[str]:
  """The curves of `_CURVES` that a row is a point of."""
  scheme, found = row['scheme'], []
  if scheme == 'list_quantiser':
    plain, chosen = row['bin_size'] == 1, row['is_chosen']
    found += [scheme] * plain + [f'{scheme}, chosen bins'] * chosen
  elif scheme == 'lattice':
    found.append(scheme)
  elif row.get('num_groups') == 1:
    found.append(scheme)
  elif row.get('num_groups') == row['num_decoders']:
    found.append(f'{scheme}, G = K')
  return [curve for curve in found if curve in _CURVES]


def _draw_curve(axis, rows, curve) -> None:
  """Best decoder with its error, mean dotted, best to worst shaded."""
  rows = sorted(rows, key=lambda r: r['num_messages'])
  bits = np.log2([r['num_messages'] for r in rows])
  best, mean, worst = (
    np.array([r[name] for r in rows])
    for name in ('mse', 'mse_mean', 'mse_worst')
  )
  errors = [2 * (r['mse_se'] or 0) for r in rows]
  curve.draw(axis, bits, best, errors, markersize=5, capsize=2)
  if np.any(worst > best):
    axis.plot(bits, mean, ls=':', lw=1, color=curve.color)
    axis.fill_between(bits, best, worst, color=curve.color, alpha=0.06, lw=0)


def _panel(axis, own, rows) -> None:
  """The curves of one number of decoders, and what needs no message."""
  for curve, style in _CURVES.items():
    mine = [r for r in own if curve in _curves(r)]
    if mine:
      _draw_curve(axis, mine, style)
  plain = {
    (r['scheme'], r['num_decoders'], r['num_messages']): r['mse'] for r in rows
  }
  means = sorted((k[2], v) for k, v in plain.items() if k[0] == 'kmeans')
  if means:
    messages, mse = np.array(means).T
    axis.plot(
      np.log2(messages), mse, 'x:', color='0.45',
      label='k-means, no side information',
    )  # fmt: skip
  lines = (
    ('mean image', ('mean_image', None, 1), ':'),
    ('side information alone', ('side_only', own[0]['num_decoders'], 1), '--'),
  )
  for label, name, line in lines:
    if name in plain:
      axis.axhline(plain[name], color='0.5', ls=line, label=label)
  axis.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))


def rate_distortion(rows, path) -> None:
  """One panel per number of decoders; bars are two standard errors.

  Points are the best decoder, thin dotted lines the mean over decoders, and the
  shade reaches to the worst.
  """
  with plots.panels(
    path,
    sorted(filter(_curves, rows), key=lambda r: r['num_decoders']),
    'num_decoders',
    title=lambda row: f'K = {row["num_decoders"]}',
    labels=('message, bits', 'squared error per pixel, best decoder'),
    size=(3.0, 3.0),
  ) as panels:
    for axis, own in panels:
      _panel(axis, own, rows)
    axis.set_ylim(bottom=0)  # of all, once their tops are known


def sweep(rows, path) -> None:
  """Error against side information at one K: a panel for each L.

  Bars are two standard errors. The scale is that of decibels: the worst decoder
  may err ten times as much as the best.
  """
  sides = list(dict.fromkeys(r['side'] for r in rows))
  with plots.panels(
    path,
    sorted(filter(_sweep_curve, rows), key=lambda r: r['num_messages']),
    'num_messages',
    title=lambda row: f'{np.log2(row["num_messages"]):.3g} bits',
    labels=('best solid, mean dotted, worst dashed', 'squared error per pixel'),
    size=(3.2, 3.2),
  ) as panels:
    for axis, own in panels:
      _sweep_panel(axis, own, sides)
    axis.set_yscale('log')  # of all, as they share it
    for axis, _ in panels:
      axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
      axis.yaxis.set_major_formatter(ticker.FormatStrFormatter('%.3g'))
      axis.yaxis.set_minor_formatter(ticker.NullFormatter())


def _sweep_curve(row) -> str | None:
  if row['scheme'] == 'list_quantiser':
    return f'list quantiser, M = {row["bin_size"]}'
  if row.get('num_groups') is None or row['scheme'] == 'side_only':
    return None
  return f'{row["scheme"]}, G = {row["num_groups"]}'


def _sweep_panel(axis, rows, sides) -> None:
  """Best decoder solid with its error, mean dotted, worst dashed."""
  curves = dict.fromkeys(filter(None, map(_sweep_curve, rows)))
  for curve, (color, mark) in zip(curves, itertools.cycle(_SWEEP)):
    mine = [r for r in rows if _sweep_curve(r) == curve]
    at = [sides.index(r['side']) for r in mine]
    errors = [2 * (r['mse_se'] or 0) for r in mine]
    best = plots.Curve(curve, color, '-', mark)
    best.draw(axis, at, [r['mse'] for r in mine], errors, capsize=2)
    for name, line in (('mse_mean', ':'), ('mse_worst', '--')):
      axis.plot(at, [r[name] for r in mine], ls=line, color=color, lw=0.8)
  axis.set_xticks(range(len(sides)), sides, rotation=30, ha='right')


def _choose(found) -> list[int]:
  """Two rows each that all decoders, some and none found."""
  total = found.sum(1)
  kinds = (
    total == found.shape[1],
    (total > 0) & (total < found.shape[1]),
    total == 0,
  )
  return [int(i) for kind in kinds for i in np.flatnonzero(kind)[:2]]


def _frame(axis, image, colour=None, title='') -> None:
  axis.imshow(image, cmap='gray', vmin=0, vmax=1, interpolation='nearest')
  axis.grid(False)
  axis.set_xticks([])
  axis.set_yticks([])
  for spine in axis.spines.values():
    spine.set_visible(True)
    spine.set_color(colour or '0.6')
    spine.set_linewidth(2.5 if colour else 0.8)
  axis.set_title(title, fontsize=8)


def _example(row, left, right, sides, images, found, error, titles) -> None:
  """One image: whole, source, then crop and answer of each decoder."""
  _frame(row[0], np.concatenate([left, right], 1), None, 'image' * titles)
  _frame(row[1], right, None, 'source' * titles)
  for k in range(len(found)):
    crop, answer = row[2 + 2 * k], row[3 + 2 * k]
    _frame(crop, sides[k], None, f'side {k}' * titles)
    colour = plots.GREEN if found[k] else plots.RED
    _frame(answer, images[k], colour, f'decoder {k}' * titles)
    weight = 'bold' if error[k] == error.min() else 'normal'
    answer.set_xlabel(f'{error[k]:.3f}', fontsize=8, fontweight=weight)


def examples(halves, sides, sent, path, *, title) -> None:
  """Source, crops and reconstructions; green found, red missed.

  Args:
    halves: left and right [R, H, W]; colour is a last axis in all images.
    sides: [R, J, h, w], J >= K.
    sent: `table.Sent` of these images.
    path: PNG file.
    title: first words of the heading.
  """
  arrays = halves.left, halves.right, sides, sent.images, sent.found, sent.error
  arrays = [np.asarray(x) for x in arrays]
  chosen, columns = _choose(arrays[4]), 2 + 2 * arrays[4].shape[1]
  with plots.figure(path, (1.1 * columns, 1.55 * len(chosen) + 0.5)) as figure:
    axes = figure.subplots(len(chosen), columns, squeeze=False)
    for place, i in enumerate(chosen):
      _example(axes[place], *(x[i] for x in arrays), place == 0)
    heading = (
      f"{title}: green = found the encoder's candidate, red = missed; below, "
      'the squared error, the best in bold'
    )
    figure.suptitle(textwrap.fill(heading, 14 * columns), fontsize=9)
