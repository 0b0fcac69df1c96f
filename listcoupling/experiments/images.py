"""The codec on images beside what needs no codec.

Rowan, Phan, Khisti (2025), arXiv 2506.05632, section 5, Tables 13 to 16 and
Figs. 3 and 4: the mean over test images of the squared error per pixel of the
best of K decoders; pixels are in [0, 1]. Beside the schemes of
`image_codec.scheme` and the paper's baseline `shared_race` stand the rows that
every such table needs: the mean image, the side information alone, k-means
with as many codewords as there are messages and no side information, and the
figures of the paper's Tables 13 to 16.

beta, the number of candidates and the size of a bin are chosen for each K and L
on images held out from training, with other keys than those of the final
figures, which come from the test set; of the list quantiser every size of a bin
has its row. A repeat draws crops, candidates, labels and races anew.

Legend: R images, N candidates, K decoders, L messages, G groups, M codewords of
a bin.
"""

import functools
import itertools
import math
import operator
import textwrap

import ml_collections
import numpy as np
import tqdm

from listcoupling import files, gumbel, standard_errors, tables
from listcoupling.compression import list_quantiser
from listcoupling.config_fields import Field
from listcoupling.experiments import plots
from listcoupling.experiments.run import Experiment
from listcoupling.image_codec import scheme as schemes
from listcoupling.image_codec.bitstream import MAX_CANDIDATES
from listcoupling.image_codec.fits import CodecSetting, CodecSizes
from listcoupling.tables import Column
from listcoupling.together import leads
from listcoupling.training import vae as training
from listcoupling.training.image_fits import (
  Codecs,
  family_of,
  fitted_betas,
  needs_vae,
  train_models,
)

EVALUATED = ('gls', 'shared_race', 'gls_kmeans', 'lattice', 'list_quantiser')
FIELDS = {
  'train': training.check_config,
  'betas': Field(float, above=0, many=True, empty=True),
  'num_decoders': Field(int, least=1, many=True),
  'num_messages': Field(int, least=1, many=True),
  'num_groups': Field(int, least=1, many=True),
  'bin_sizes': Field(int, least=1, many=True),
  'schemes': Field(str, among=EVALUATED, many=True),
  'num_candidates': Field(int, least=1, many=True),
  'refine': {
    **dict.fromkeys(
      ('num_images', 'num_kmeans', 'num_candidates', 'classifier_steps',
       'steps', 'batch_size', 'hidden_size'),
      Field(int, least=1),
    ),
    'betas': Field(float, above=0, many=True, empty=True),
    'learning_rate': Field(float, above=0),
    'mean_weight': Field(float, least=0, most=1),
  },
  'num_images': Field(int, least=2),
  'num_held_out_images': Field(int, least=0),
  'num_repeats': Field(int, least=1),
}  # fmt: skip


MEASURES = ('best', 'mean', 'worst', 'missed', 'bound at N candidates')
COLUMNS = (
  Column('scheme', 'scheme'),
  Column('K', 'num_decoders'),
  Column('L', 'num_messages'),
  Column('G', 'num_groups'),
  Column('M', 'bin_size'),
  Column('chosen', 'is_chosen'),
  Column('bits/pixel', 'bits_per_pixel', '.4f'),
  Column('PSNR', 'psnr', '.2f', error=False),
  Column('best', 'mse', '.4f'),
  Column('mean', 'mse_mean', '.4f'),
  Column('worst', 'mse_worst', '.4f'),
  Column('ahead', 'ahead', '+.4f'),
  Column('paper', 'paper_mse', '.4f'),
  Column('P[error]', 'error_rate', '.3f'),
  Column('bound', 'error_bound', '.3f'),
)

_LEGEND = (
  'K decoders, L messages, G groups of decoders, M codewords of a bin (chosen: '
  'on held-out images). best, mean, worst: squared error per pixel of the K '
  'decoders, ± one standard error over images; PSNR: of the best, dB. ahead: '
  'how much less the best errs than that of the list quantiser with M = 1 at '
  'this K and L, positive is better. P[error]: no decoder has what the '
  'encoder chose; bound: on that. kmeans: no side information; side_only: no '
  'message.'
)
_PAPERS = ' paper: best of arXiv 2506.05632.'

# Data, scheme, K -> MSE of the best decoder at 4, 8, 16, 32, 64 messages.
_PAPER = {
  ('mnist', 'gls', 1): (0.1027, 0.0942, 0.0852, 0.0766, 0.0693),
  ('mnist', 'gls', 2): (0.0860, 0.0792, 0.0734, 0.0687, 0.0636),
  ('mnist', 'gls', 4): (0.0751, 0.0710, 0.0671, 0.0635, 0.0564),
  ('mnist', 'shared_race', 2): (0.0941, 0.0865, 0.0783, 0.0718, 0.0669),
  ('mnist', 'shared_race', 4): (0.0886, 0.0815, 0.0747, 0.0694, 0.0639),
  ('cifar', 'gls', 1): (0.1119, 0.1054, 0.0963, 0.0846, 0.0710),
  ('cifar', 'gls', 2): (0.0925, 0.0860, 0.0787, 0.0698, 0.0616),
}


# What is sent: the rows, and among which settings each chooses.


def _check_sizes(config) -> None:
  """Raises ValueError for settings that do not go together."""
  most = max(config.num_messages) * max(config.num_groups)
  if max(config.num_candidates) < most:
    raise ValueError(
      'num_candidates must reach num_messages (times num_groups), '
      f'got {config.num_candidates} for {most}.'
    )
  size = config.train.model.latent_size
  cosets = max(config.num_messages) * max(config.num_decoders)
  if 'lattice' in config.schemes and cosets << size > MAX_CANDIDATES:
    raise ValueError(
      f'the lattice of latent_size {size} at {cosets} messages and decoders '
      f'has {cosets << size} numbers, a file takes {MAX_CANDIDATES}; take a '
      'smaller latent_size or leave lattice out of schemes.'
    )
  if config.num_held_out_images and not config.train.num_held_out:
    raise ValueError(
      'the choice of settings needs train.num_held_out images, got 0.'
    )


def choices_of(config, family: str) -> dict[CodecSizes, list[CodecSetting]]:
  """The codecs of a family, and among which settings each chooses."""
  if family == 'side_only':  # which a VAE answers
    counts = config.num_decoders if needs_vae(config.schemes) else ()
    first = CodecSetting((*config.betas, config.train.beta)[0], 1)
    return {CodecSizes(family, k, 1): [first] for k in counts}
  codes = [
    CodecSizes(scheme, num_decoders, num_messages, num_groups)
    for num_decoders, num_messages, scheme in itertools.product(
      config.num_decoders, config.num_messages, config.schemes
    )
    for num_groups in _groups_of(config, scheme, num_decoders)
  ]
  return {x: _settings_of(config, x) for x in codes if family_of(x) == family}


def _groups_of(config, scheme, num_decoders) -> list[int]:
  """Numbers G of groups that make a row of their own."""
  if scheme == 'shared_race':  # for one decoder the same as gls
    return [g for g in config.num_groups if num_decoders > 1 == g]
  own = schemes.SCHEMES[scheme]
  if own.has_race:
    return [g for g in config.num_groups if num_decoders % g == 0]
  # All decoders divide the cosets of a lattice, or codewords whatever G is.
  return [num_decoders if own.has_lattice else 1]


def _settings_of(config, code: CodecSizes) -> list[CodecSetting]:
  """Settings among which a codec chooses; N of at least L G."""
  own = schemes.SCHEMES[family_of(code)]
  if own.has_bins:
    return [CodecSetting(None, 1, size) for size in config.bin_sizes]
  if own.has_fit:
    count = config.refine.num_candidates if own.has_race else 1
    betas = fitted_betas(config, code.scheme)
    return [CodecSetting(beta, count) for beta in betas]
  betas = tuple(config.betas) or (config.train.beta,)
  least = code.num_messages * code.num_groups
  counts = [n for n in config.num_candidates if n >= least]
  return [CodecSetting(*pair) for pair in itertools.product(betas, counts)]


# Sending.


def spread(halves, count):
  """`count` images evenly spread: the ends of a test set differ."""
  places = np.linspace(0, len(halves.right) - 1, min(count, len(halves.right)))
  return type(halves)(*(x[places.astype(int)] for x in halves))


def measure(error, found, error_bound) -> np.ndarray:
  """One repeat of one codec, as kept on disk.

  Args:
    error: [R, K] squared error per pixel.
    found: [R, K] whether a decoder holds the encoder's choice, or NaN.
    error_bound: [R] on the chance that nobody does, or NaN.

  Returns:
    [5, R], see `MEASURES`.

  Example:
    >>> measure([[.4, .1]], [[0., 1.]], [.2])[:, 0].tolist()
    [0.1, 0.25, 0.4, 0.0, 0.2]
  """
  error, found = np.asarray(error), np.asarray(found, float)
  spread = error.min(1), error.mean(1), error.max(1)
  return np.stack([*spread, 1 - found.max(1), np.asarray(error_bound)])


def repeat(codecs: Codecs, halves, codes, key) -> dict[str, np.ndarray]:
  """Every codec once, by what names it and M in files: [5, R]."""
  return {
    _name(code, setting): measure(*sent[1:])
    for code, setting, sent in codecs.send_all(key, halves, codes)
  }


def _name(code: CodecSizes, setting: CodecSetting) -> str:
  return '.'.join(map(str, (*code, setting.bin_size)))


def _repeats(config, record, codecs, halves, choices, seed):
  """Codecs of one family, `choices_of` it, repeated.

  Returns:
    (codec, M) -> [repeats, 5, R], and the chosen setting of each codec.
  """
  (family,) = {family_of(code) for code in choices}
  record.deal([choices], lambda x: choose(config, codecs, x, seed))
  chosen = choose(config, codecs, choices, seed)
  codes = [*chosen.items()]
  own = schemes.SCHEMES.get(family)  # None: side_only
  if own is not None and own.has_bins:  # a row for every size of a bin
    codes = [(code, x) for code, settings in choices.items() for x in settings]
  names = {_name(*each): (each[0], each[1].bin_size) for each in codes}

  def one(i):
    part = record.load(f'repeats/{family}_{i}')
    if part is None or not names.keys() <= part.keys():
      key = gumbel.domain_key(gumbel.seed_key(seed), gumbel.Domain.REPEAT, i)
      part = repeat(codecs, halves, codes, key)
      record.save(f'repeats/{family}_{i}', part)
    return part

  numbers = range(config.num_repeats)
  record.deal(numbers, one)
  parts = [one(i) for i in tqdm.tqdm(numbers, f'{family}, repeats')]
  measured = {
    names[name]: np.stack([part[name] for part in parts])
    for name in sorted(names)
  }
  return measured, chosen


def choose(config, codecs, choices, seed) -> dict[CodecSizes, CodecSetting]:
  """Settings that are best on images held out, if there are some."""
  held_out = None
  if config.num_held_out_images:
    held_out = spread(codecs.halves['select'], config.num_held_out_images)
  key = gumbel.domain_key(gumbel.seed_key(seed), gumbel.Domain.SELECTION)
  return codecs.choose(key, held_out, choices)


# Rows.


def paper_mse(dataset: str, scheme: str, num_decoders: int, num_messages: int):
  """The paper's figure, or None; all but its baseline stand beside GLS."""
  if scheme == 'side_only':
    return None
  name = scheme if scheme == 'shared_race' else 'gls'
  row = _PAPER.get((dataset[:5], name, num_decoders), ())
  return dict(zip((4, 8, 16, 32, 64), row)).get(num_messages)


def _is_papers(train) -> bool:
  """Whether a decoder knows what it knows in the paper."""
  return train.side_kind == 'crop' and tuple(train.model.side_shape) in (
    (7, 7), (16, 16, 3),
  )  # fmt: skip


def _with_rate(row: dict, source_shape) -> dict:
  """A row with its rate and the PSNR in dB; three colours are one pixel."""
  bits = math.log2(row['num_messages'])
  return row | {
    'bits_per_pixel': bits / math.prod(source_shape[:2]),
    'psnr': -10 * math.log10(max(row['mse'], 1e-20)),
  }


def plain_rows(config, train, halves) -> list[dict]:
  """Rows without side information: the mean image and k-means.

  Args:
    config: of the experiment.
    train: [R, H, W] sources of the training images.
    halves: the test images.
  """
  flat = np.asarray(halves.right).reshape(len(halves.right), -1)
  train = np.asarray(train).reshape(len(train), -1)
  answers = [('mean_image', 1, train.mean(0))]
  for num_messages in config.num_messages:
    words = list_quantiser.fit_codewords(
      train[: config.refine.num_kmeans], num_messages
    )
    nearest = np.asarray(list_quantiser.nearest(flat, words))
    answers.append(('kmeans', num_messages, words[nearest]))
  rows = [
    {
      'scheme': scheme,
      'num_decoders': None,
      'num_messages': num_messages,
      'images': len(flat),
      'repeats': 1,
      **standard_errors.means({'mse': ((flat - answer) ** 2).mean(1)}),
    }
    for scheme, num_messages, answer in answers
  ]
  return [_with_rate(row, halves.right.shape[1:]) for row in rows]


def codec_rows(config, measured, chosen) -> list[dict]:
  """Rows of what was repeated; standard errors are over images.

  "ahead" is how much less the best decoder errs than that of the list quantiser
  of the same K and L with bins of one codeword, image by image.

  Args:
    config: of the experiment.
    measured: (codec, M) -> [repeats, 5, R] of `measure`.
    chosen: the setting of each codec.
  """
  rows = []
  for (code, bin_size), values in measured.items():
    setting = chosen[code]
    row = code._asdict() | {'images': values.shape[2], 'repeats': len(values)}
    row |= _measures(values)
    plain = measured.get((CodecSizes('list_quantiser', *code[1:3]), 1))
    if plain is not None and plain is not values:
      ahead = plain[:, 0].mean(0) - values[:, 0].mean(0)
      row |= standard_errors.means({'ahead': ahead})
    if code.num_groups == 1 and _is_papers(config.train):
      row['paper_mse'] = paper_mse(config.train.dataset, *code[:3])
    own = schemes.SCHEMES.get(family_of(code))  # None: side_only
    has_race = own is not None and own.has_race
    row['beta'] = setting.beta
    row['num_candidates'] = setting.num_candidates if has_race else None
    if own is not None and own.has_bins:
      row['bin_size'] = bin_size
      row['is_chosen'] = bin_size == setting.bin_size
    rows.append(_with_rate(row, config.train.model.source_shape))
  return sorted(
    rows, key=lambda row: [row[name] for name in CodecSizes._fields[1:]]
  )


def _measures(values) -> dict:
  """Columns of [repeats, 5, R], the repeats of one image averaged first."""
  best, mean, worst, missed, bound = values.mean(0)  # [R] each
  return {
    **standard_errors.means(
      {'mse': best, 'mse_mean': mean, 'mse_worst': worst}
    ),
    'error_rate': None if np.isnan(missed).any() else float(missed.mean()),
    'error_bound': None if np.isnan(bound).any() else float(bound.mean()),
  }


def as_text(rows, columns=COLUMNS) -> str:
  """The table for a terminal, its columns explained, and who is ahead.

  Args:
    rows: of `codec_rows` and `plain_rows`, of any number of tables.
    columns: what is shown.
  """
  beside = any(row.get('paper_mse') is not None for row in rows)
  legend = textwrap.fill(_LEGEND + _PAPERS * beside, width=79)
  return '\n\n'.join([tables.as_text(rows, columns), legend, *_standing(rows)])


def _standing(rows) -> list[str]:
  """In how many settings a scheme is ahead of the list quantiser without bins.

  A list quantiser with bins counts where they were chosen on other images.
  """
  counts = {}
  for row in rows:
    if row.get('ahead') is None or row.get('is_chosen') is False:
      continue
    own = counts.setdefault(row['scheme'], dict(ahead=0, level=0, behind=0))
    if abs(row['ahead']) <= 2 * (row['ahead_se'] or 0.0):
      own['level'] += 1
    elif row['ahead'] > 0:
      own['ahead'] += 1
    else:
      own['behind'] += 1
  if not counts:
    return []
  said = (
    'In how many settings the best decoder of a scheme is ahead of that of '
    'the list quantiser with M = 1 at the same K and L, level or behind (by '
    'two standard errors):'
  )
  counts = [{'scheme': scheme} | own for scheme, own in counts.items()]
  return [f'{textwrap.fill(said, 79)}\n\n{tables.as_text(counts)}']


# Pictures.

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
  """Codecs without a message or without side information."""
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
    sent: `training.image_fits.Sent` of these images.
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


# The run.


def _check_models(record, models) -> None:
  """Refuses results of other networks of the same settings."""
  digests = {f'beta {b:g}': files.digest(m.params) for b, m in models.items()}
  kept = record.rows(
    digests,
    lambda digest: {'sha256': digest},
    key='model',
    table='models.csv',
  )
  changed = [r['model'] for r in kept if r['sha256'] != digests[r['model']]]
  if changed:
    raise ValueError(
      f'{record.workdir} holds results of other networks of {changed}: put '
      'them back or choose another workdir.'
    )


def _prepare(config, seed):
  """Trains or reads the models, then one scheme after the other.

  The folder gets model*/, fits/, choice/, repeats/ and examples_*.png, too.
  Several processes want trained models: a training is on a mesh or alone.
  The seed is of choice and evaluation; training has its own, train.seed.
  """
  _check_sizes(config)
  halves = training.load_halves(config.train)

  def fill(record):
    models = {}
    if needs_vae(config.schemes):
      models = train_models(config.train, config.betas, record.workdir)
      _check_models(record, models)
    record.note(pixels='in [0, 1]; squared error per pixel (and colour)')
    codecs = make_codecs(config, record.workdir, halves, models)
    return _fill(config, record, codecs, seed)

  images = files.digest({k: v._asdict() for k, v in halves.items()})
  return {'images': images, 'measures': MEASURES}, fill


def make_codecs(config, workdir, halves, models) -> Codecs:
  """The codecs of a table."""
  return Codecs(
    config.train, workdir, halves, models, config.refine,
    num_decoders=config.num_decoders, num_messages=max(config.num_messages),
    bin_size=max(config.bin_sizes),
  )  # fmt: skip


def _fill(config, record, codecs: Codecs, seed: int) -> list[dict]:
  """The rows, written after each family, and the pictures."""
  halves = codecs.halves
  test = spread(halves['test'], config.num_images)
  plain = plain_rows(config, halves['train'].right, test)
  measured, chosen = {}, {}
  # The cheap ones first; gls and its baseline share their trials.
  families = 'side_only', 'list_quantiser', 'gls', 'lattice', 'gls_kmeans'
  for family in families:
    codecs.check(choices_of(config, family))
  for family in families:
    if choices := choices_of(config, family):
      record.deal([choices], codecs.fit)  # one fits, all read
      codecs.fit(choices)
      more, own = _repeats(config, record, codecs, test, choices, seed)
      measured, chosen = measured | more, chosen | own
      found = plain + codec_rows(config, measured, chosen)
      record.write(found)  # so far
      record.note(table=found)
  if leads():
    _draw_examples(config, codecs, test, chosen, record.workdir, seed)
  return found


# What an encoder chooses; of other schemes a candidate.
_CHOICES = {'lattice': 'lattice point', 'list_quantiser': 'codeword'}


def _draw_examples(config, codecs, halves, chosen, workdir, seed) -> None:
  """Draws the same four images as each scheme sends them."""
  most = max(config.num_decoders)
  num_messages = sorted(config.num_messages)[len(config.num_messages) // 2]
  key = gumbel.domain_key(gumbel.seed_key(seed), gumbel.Domain.PICTURES)
  few = spread(halves, 4)
  lines = {}
  for code in chosen:
    if code[1:3] == (most, num_messages):  # the first of its groups
      lines.setdefault(code.scheme, code)
  for scheme, code in lines.items():
    trials = codecs.prepare(key, few, code, chosen[code])
    sent = codecs.send(code, trials, chosen[code])
    examples(
      few, trials.sides, sent, workdir / f'examples_{scheme}.png',
      title=f'{scheme}, {np.log2(num_messages):.3g} bits to {most} decoders',
      choice=_CHOICES.get(scheme, 'candidate'),
    )  # fmt: skip


run = Experiment(
  FIELDS,
  _prepare,
  as_text,
  {'rate_distortion.png': rate_distortion},
  may_change=('config.num_repeats', 'config.schemes'),
)


# How much side information matters: a table for each kind of it.


def _points(config) -> dict:
  """Name -> config of its table, for each entry of config.sides.

  An entry is a kind of `data.side_information`, its size and its noise; all
  tables have the same images, codewords and keys.

  Raises:
    ValueError: for entries that make no sense.
  """
  found = {}
  for entry in config.sides:
    try:
      kind, (height, width), noise = entry
    except (TypeError, ValueError):
      raise ValueError(
        f'config.sides must hold (kind, (height, width), noise), got {entry!r}.'
      ) from None
    point = ml_collections.ConfigDict(config.to_dict())
    del point.sides
    colours = tuple(config.train.model.source_shape)[2:]
    point.train.update(side_kind=kind, side_noise=float(noise))
    point.train.model.side_shape = (height, width, *colours)
    training.check_config(point.train)
    _check_sizes(point)
    name = f'{kind}_{height}x{width}' + (f'_{noise:g}' if noise else '')
    found['none' if kind == 'none' else name] = point
  if not found:
    raise ValueError('config.sides must not be empty.')
  return found


def _beside(rows) -> list[dict]:
  """Rows with the PSNR of list quantisers without bins of their K and L.

  That which knows as much, and that which knows nothing, where there is one.
  """
  place = operator.itemgetter('side', 'num_decoders', 'num_messages')
  plain = {
    place(row): row['psnr']
    for row in rows
    if row['scheme'] == 'list_quantiser' and row['bin_size'] == 1
  }
  return [
    row
    | {
      'psnr_plain': plain.get(place(row)),
      'psnr_blind': plain.get(place(row | {'side': 'none'})),
    }
    for row in rows
  ]


def _prepare_sweep(config, seed):
  """A table in a folder of its own for each kind of side information."""
  points = _points(config)

  def fill(record):
    found = []
    for name, point in points.items():
      made = run(point, record.workdir / name, seed)
      found = _beside([*found, *({'side': name, **row} for row in made)])
      record.write(found)  # so far
    record.note(table=found)
    return found

  return {}, fill


_SWEEP_COLUMNS = (
  Column('side', 'side'),
  *COLUMNS,
  Column('PSNR, no bins', 'psnr_plain', '.2f'),
  Column('no side', 'psnr_blind', '.2f'),
)
run_sweep = Experiment(
  FIELDS | {'sides': lambda sides: None},  # `_points` says more
  _prepare_sweep,
  functools.partial(as_text, columns=_SWEEP_COLUMNS),
  {},
  may_change=(*run.may_change, 'config.sides'),
)
