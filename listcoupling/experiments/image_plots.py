"""Pictures of the image codec: rate against distortion, and examples."""

import numpy as np

from listcoupling.experiments import results

_STYLE = {
  'gls': ('GLS', '-', 'o'),
  'shared_race': ('one shared race', '--', 's'),
  'cells': ('GLS, cells as labels', '-.', '^'),
  'list_quantiser': ('list quantiser', '-', 'D'),
}


def _pyplot():
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot

  return pyplot


def _save(figure, path) -> None:
  with results.replacing(path) as new:
    figure.savefig(new, dpi=150, bbox_inches='tight')
  _pyplot().close(figure)


def _panel(axis, rows, num_decoders, colours) -> None:
  """The curves of one number of decoders."""
  for scheme, (label, line, marker) in _STYLE.items():
    mine = sorted(
      (r['num_messages'], r['mse'], r['mse_se'])
      for r in rows
      if r['scheme'] == scheme and r['num_decoders'] == num_decoders
    )
    if mine:
      messages, mse, error = np.array(mine).T
      axis.errorbar(
        np.log2(messages), mse, 2 * error, label=label, ls=line,
        marker=marker, ms=5, capsize=2, color=colours[scheme],
      )  # fmt: skip
  plain = {
    (r['scheme'], r['num_decoders'], r['num_messages']): r['mse'] for r in rows
  }
  means = sorted((k[2], v) for k, v in plain.items() if k[0] == 'kmeans')
  if means:
    messages, mse = np.array(means).T
    axis.plot(
      np.log2(messages), mse, "x:", color="0.45",
      label="k-means, no side information",
    )  # fmt: skip
  lines = (
    ('mean image', ('mean_image', None, 1), ':'),
    ('side information alone', ('side_only', num_decoders, 1), '--'),
  )
  for label, name, line in lines:
    if name in plain:
      axis.axhline(plain[name], color='0.7', ls=line, label=label)
  axis.set_title(f'K = {num_decoders}')
  axis.set_xlabel('message, bits')
  axis.xaxis.set_major_locator(_pyplot().MaxNLocator(integer=True))
  axis.grid(alpha=0.25)


def rate_distortion(rows, path) -> None:
  """One panel per number of decoders; bars are two standard errors.

  Args:
    rows: rows of `images.run`.
    path: PNG file.
  """
  pyplot = _pyplot()
  counts = sorted({r['num_decoders'] for r in rows if r['scheme'] in _STYLE})
  colours = dict(zip(_STYLE, ('C0', 'C1', 'C2', 'C3')))
  figure, axes = pyplot.subplots(
    1, len(counts), figsize=(3.6 * len(counts) + 2.4, 3.6), sharey=True,
    squeeze=False,
  )  # fmt: skip
  for axis, num_decoders in zip(axes[0], counts):
    _panel(axis, rows, num_decoders, colours)
  axes[0, 0].set_ylabel('squared error per pixel, best decoder')
  axes[0, 0].set_ylim(bottom=0)
  axes[0, -1].legend(
    loc='center left', bbox_to_anchor=(1.02, 0.5), frameon=False
  )
  _save(figure, path)


def _choose(found, per_kind: int) -> list[int]:
  """Rows where every decoder, some and none found the candidate."""
  total = found.sum(1)
  kinds = (
    total == found.shape[1],
    (total > 0) & (total < found.shape[1]),
    total == 0,
  )
  return [int(i) for kind in kinds for i in np.flatnonzero(kind)[:per_kind]]


def _frame(axis, image, colour=None, title='') -> None:
  axis.imshow(image, cmap='gray', vmin=0, vmax=1, interpolation='nearest')
  axis.set_xticks([])
  axis.set_yticks([])
  for spine in axis.spines.values():
    spine.set_color(colour or '0.6')
    spine.set_linewidth(2.5 if colour else 0.8)
  axis.set_title(title, fontsize=8)


def examples(
  left, right, sides, images, found, error, path, *, title, per_kind=2
) -> None:
  """Source, crops and reconstructions; green found, red missed.

  Args:
    left: [R, H, W].
    right: [R, H, W].
    sides: [R, K, h, w]; colour is a last axis in all images.
    images: [R, K, H, W] reconstructions.
    found: [R, K] whether a decoder found the encoder's candidate.
    error: [R, K] squared error per pixel.
    path: PNG file.
    title: first words of the heading.
    per_kind: rows drawn of each kind: found by all, by some, by none.
  """
  pyplot = _pyplot()
  left, right, sides, images, found, error = (
    np.asarray(x) for x in (left, right, sides, images, found, error)
  )
  chosen = _choose(found, per_kind)
  decoders = found.shape[1]
  figure, axes = pyplot.subplots(
    len(chosen), 2 + 2 * decoders,
    figsize=(1.1 * (2 + 2 * decoders), 1.55 * len(chosen) + 0.5),
    squeeze=False,
  )  # fmt: skip
  for place, i in enumerate(chosen):
    row, top = axes[place], place == 0
    _frame(row[0], np.concatenate([left[i], right[i]], 1), None, 'image' * top)
    _frame(row[1], right[i], None, 'source' * top)
    for k in range(decoders):
      _frame(row[2 + 2 * k], sides[i, k], None, f'side {k}' * top)
      colour = 'tab:green' if found[i, k] else 'tab:red'
      _frame(row[3 + 2 * k], images[i, k], colour, f'decoder {k}' * top)
      best = error[i, k] == error[i].min()
      row[3 + 2 * k].set_xlabel(
        f'{error[i, k]:.3f}',
        fontsize=8,
        fontweight='bold' if best else 'normal',
      )
  figure.suptitle(
    f"{title}: green = found the encoder's candidate, red = missed; below, "
    'the squared error, the best in bold',
    fontsize=9,
  )
  figure.tight_layout(rect=(0, 0, 1, 0.97))
  _save(figure, path)
