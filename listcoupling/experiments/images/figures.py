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
  elif scheme == 'lattice' or row.get('num_groups') == 1:
    found.append(scheme)
  elif row.get('num_groups') == row['num_decoders']:
    found.append(f'{scheme}, G = K')
  return [curve for curve in found if curve in _CURVES]


def rate_distortion(rows, path) -> None:
  """One panel per number of decoders; bars are two standard errors.

  Points are the best decoder, thin dotted lines the mean over decoders, and the
  shade reaches to the worst.
  """
  rows = [row | {'bits': np.log2(row['num_messages'])} for row in rows]
  rows.sort(key=lambda row: row['bits'])
  with plots.panels(
    path,
    sorted(filter(_curves, rows), key=lambda row: row['num_decoders']),
    'num_decoders',
    title=lambda row: f'K = {row["num_decoders"]}',
    labels=('message, bits', 'squared error per pixel, best decoder'),
    size=(3.0, 3.0),
  ) as panels:
    for axis, own in panels:
      _draw_curves(axis, own)
      _draw_plain(axis, rows, own[0]['num_decoders'])
      axis.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    axis.set_ylim(bottom=0)  # of all, once their tops are known


def _draw_curves(axis, own) -> None:
  """Best decoder with its error, mean dotted, best to worst shaded."""
  for name, curve in _CURVES.items():
    if mine := [row for row in own if name in _curves(row)]:
      style = dict(errors=2, markersize=5, capsize=2)
      curve.of_rows(axis, mine, 'bits', 'mse', **style)
      bits, best, mean, worst = (
        np.array([row[name] for row in mine])
        for name in ('bits', 'mse', 'mse_mean', 'mse_worst')
      )
      if np.any(worst > best):
        axis.plot(bits, mean, ls=':', lw=1, color=curve.color)
        shade = dict(color=curve.color, alpha=0.06, lw=0)
        axis.fill_between(bits, best, worst, **shade)


def _draw_plain(axis, rows, num_decoders) -> None:
  """What needs no message or no side information."""
  own = {
    scheme: [row for row in rows if row['scheme'] == scheme]
    for scheme in ('kmeans', 'mean_image', 'side_only')
  }
  if own['kmeans']:
    bits, mse = zip(*((row['bits'], row['mse']) for row in own['kmeans']))
    label = 'k-means, no side information'
    axis.plot(bits, mse, 'x:', color='0.45', label=label)
  for row in own['mean_image']:
    axis.axhline(row['mse'], color='0.5', ls=':', label='mean image')
  for row in own['side_only']:
    if row['num_decoders'] == num_decoders:
      label = 'side information alone'
      axis.axhline(row['mse'], color='0.5', ls='--', label=label)


def sweep(rows, path) -> None:
  """Error against side information at one K: a panel for each L.

  Bars are two standard errors. The scale is that of decibels: the worst decoder
  may err ten times as much as the best.
  """
  sides = list(dict.fromkeys(row['side'] for row in rows))
  rows = [row | {'place': sides.index(row['side'])} for row in rows]
  with plots.panels(
    path,
    sorted(filter(_sweep_curve, rows), key=lambda row: row['num_messages']),
    'num_messages',
    title=lambda row: f'{np.log2(row["num_messages"]):.3g} bits',
    labels=('best solid, mean dotted, worst dashed', 'squared error per pixel'),
    size=(3.2, 3.2),
  ) as panels:
    for axis, own in panels:
      curves = dict.fromkeys(map(_sweep_curve, own))
      for name, (color, mark) in zip(curves, itertools.cycle(_SWEEP)):
        mine = [row for row in own if _sweep_curve(row) == name]
        curve = plots.Curve(name, color, '-', mark)
        curve.of_rows(axis, mine, 'place', 'mse', errors=2, capsize=2)
        curve.others(axis, mine, 'place', 'mse_mean', 'mse_worst')
      axis.set_xticks(range(len(sides)), sides, rotation=30, ha='right')
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
