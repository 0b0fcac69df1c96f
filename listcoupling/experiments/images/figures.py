"""Pictures of the image codec: rate against distortion, and examples."""

import textwrap

import numpy as np

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


_DECODERS = {'best': 'mse', 'mean': 'mse_mean', 'worst': 'mse_worst'}


def rate_distortion(rows, path) -> None:
  """A line of panels per number of decoders: the best, their mean, the worst.

  Bars are two standard errors. A single decoder is its own mean and worst.
  """
  rows = [row | {'bits': np.log2(row['num_messages'])} for row in rows]
  rows.sort(key=lambda row: row['bits'])
  ticks = sorted({row['bits'] for row in rows if _curves(row)})
  shown = [
    row | {'decoder': decoder}
    for decoder in _DECODERS
    for row in sorted(rows, key=lambda row: row['num_decoders'] or 0)
    if _curves(row)
  ]
  with plots.panels(
    path,
    shown,
    'decoder',
    down='num_decoders',
    title=lambda row: f'K = {row["num_decoders"]}, {row["decoder"]} decoder',
    labels=('message, bits', 'squared error per pixel ± 2 s.e.'),
    size=(3.0, 2.8),
  ) as panels:
    for axis, own in panels:
      column = _DECODERS[own[0]['decoder']]
      _draw_curves(axis, own, column)
      _draw_plain(axis, rows, own[0]['num_decoders'], column)
      axis.set_xticks(ticks, [f'{bits:.3g}' for bits in ticks])
    axis.set_ylim(bottom=0)  # of all, once their tops are known


def _draw_curves(axis, own, column) -> None:
  """A curve with its errors for each scheme.

  Bins are a curve where some were chosen, else it is the one without.
  """
  bins = any(row.get('is_chosen') and row['bin_size'] > 1 for row in own)
  for name, curve in _CURVES.items():
    mine = [row for row in own if name in _curves(row)]
    if mine and (bins or name != 'list_quantiser, chosen bins'):
      style = dict(errors=2, markersize=5, capsize=2)
      curve.of_rows(axis, mine, 'bits', column, **style)


def _draw_plain(axis, rows, num_decoders, column) -> None:
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
      axis.axhline(row[column], color='0.5', ls='--', label=label)


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
    colour = plots.GREEN if found[k] else plots.ORANGE
    _frame(answer, images[k], colour, f'decoder {k}' * titles)
    weight = 'bold' if error[k] == error.min() else 'normal'
    answer.set_xlabel(f'{error[k]:.3f}', fontsize=8, fontweight=weight)


def _places(height, *widths) -> tuple[list[float], float]:
  """Widths of columns and height of a row, inches, at one scale.

  A little wider than that, so that the height of a row sets the scale.
  """
  scale = 1.15 / height
  return [max(0.6, 1.05 * scale * width) for width in widths], 1.15


def examples(halves, sides, sent, path, *, title, choice) -> None:
  """Source, crops and reconstructions; green found, orange missed.

  Args:
    halves: left and right [R, H, W]; colour is a last axis in all images.
    sides: [R, J, h, w], J >= K.
    sent: `image_codec.trials.Sent` of these images.
    path: PNG file.
    title: first words of the heading.
    choice: what the encoder chooses, in words.
  """
  arrays = halves.left, halves.right, sides, sent.images, sent.found, sent.error
  arrays = [np.asarray(x) for x in arrays]
  left, right, *_, found, _ = arrays
  wide = right.shape[2]
  widths, height = _places(
    right.shape[1], left.shape[2] + wide, *[wide] * (1 + 2 * found.shape[1])
  )
  size = sum(widths) + 0.1 * len(widths), (height + 0.35) * len(found) + 0.6
  with plots.figure(path, size) as figure:
    axes = figure.subplots(
      len(found), len(widths), squeeze=False, width_ratios=widths
    )
    for i, row in enumerate(axes):
      _example(row, *(x[i] for x in arrays), i == 0)
    heading = (
      f"{title}: green = a decoder with the encoder's {choice}, orange = with "
      'another; below, the squared error, the best in bold'
    )
    figure.suptitle(textwrap.fill(heading, int(13 * size[0])), fontsize=9)
