"""Tables 7 and 8 of arXiv 2506.05632: matching probability of one step.

The target writes a text; at every token of it the two laws are compared: the
list matching bound (Theorem 1), the exact probability that GLS matches, what
sampling it gives, the exact acceptance of SpecInfer and of SpecTr, the optimum
of any scheme with K iid drafts and of any with K drafts without replacement,
and the shared-race list, sampled. All are averages over the same tokens: the
decoder's own share of accepted drafts is not, for its steps begin where the
last block failed.

Legend: R rows of a batch, P places of a row, M new tokens, T = R M, A atoms, K
drafts.
"""

import dataclasses
import functools
import textwrap
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import bounds, coupling, standard_errors
from listcoupling.config_fields import Field
from listcoupling.decoding import analysis
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments import plots
from listcoupling.experiments.language import protocol
from listcoupling.experiments.plots import Curve
from listcoupling.gumbel import Domain
from listcoupling.tables import Column

_largest = bounds.optimal_list_acceptance
COMPUTED = {
  'gls_exact': bounds.list_matching_probability,
  'gls_bound': bounds.list_matching_bound,
  'optimum': _largest,
  'optimum_without_replacement': functools.partial(_largest, replace=False),
  'specinfer': bounds.specinfer_probability,
  'spectr': bounds.spectr_probability,
}
SAMPLED = {
  'gls': coupling.gumbel_list_sampling,
  'shared_race': coupling.shared_race_list_sampling,
}
VALUES = (*COMPUTED, *SAMPLED)
FIELDS = protocol.FIELDS | {'repetitions': Field(int, least=1)}
_CURVES = {  # without a marker: computed
  'optimum_without_replacement': Curve('optimum, top-K', plots.BLACK, ':'),
  'optimum': Curve('optimum, iid drafts', plots.BLACK),
  'shared_race': Curve('shared-race list', plots.GREEN, marker='s'),
  'gls': Curve('GLS, sampled', plots.RED, None, 'o', hollow=True),
  'gls_exact': Curve('GLS, exact', plots.RED),
  'gls_bound': Curve('GLS, Theorem 1', plots.RED, '--'),
  'specinfer': Curve('SpecInfer', plots.ORANGE),
  'spectr': Curve('SpecTr', plots.SKY),
}
COLUMNS = (
  Column('K', 'num_drafts'),
  Column('GLS', 'gls', '.4f'),
  Column('shared race', 'shared_race', '.4f'),
  Column('GLS exact', 'gls_exact', '.4f', error=False),
  Column('bound', 'gls_bound', '.4f', error=False),
  Column('SpecInfer', 'specinfer', '.4f', error=False),
  Column('SpecTr', 'spectr', '.4f', error=False),
  Column('optimum', 'optimum', '.4f', error=False),
  Column('top-K', 'optimum_without_replacement', '.4f', error=False),
)
LEGEND = textwrap.fill(
  'Mean matching probability, sampled for GLS and the shared race, else '
  'computed. bound: of GLS, Theorem 1; optimum: of iid drafts; top-K: of '
  'drafts without replacement. ± is the standard error over prompts, in '
  'results.csv of every column.',
  width=79,
)


class Setting(NamedTuple):
  """One row of the table."""

  num_drafts: int


def laws_along(
  setup: protocol.Setup, job: protocol.Job, options: GenerateOptions
) -> analysis.LawsAlong:
  """Laws, by `options`, at the tokens that plain sampling writes for a job."""
  choice, rows = setup.choices[job.dataset], job.batch.rows
  plain = dataclasses.replace(
    options, method='autoregressive', draft_temperatures=None
  )
  return analysis.laws_along(
    setup.target,
    setup.drafter,
    choice.tokens[rows],
    choice.lengths[rows],
    protocol.continue_prompts(setup, job, plain),
    options,
  )


def sums(
  rows: np.ndarray, columns: Mapping[str, jax.Array], size: int
) -> dict[str, np.ndarray]:
  """Sums of columns [T] over each row's tokens [R], and their number.

  Args:
    rows: [T] of each token, see `analysis.LawsAlong`.
    columns: by name.
    size: R.
  """
  own = rows >= 0
  count = functools.partial(np.bincount, rows[own], minlength=size)
  return {
    'tokens': count(),
    **{name: count(np.asarray(x)[own]) for name, x in columns.items()},
  }


@functools.partial(jax.jit, static_argnames=('num_drafts', 'repetitions'))
def _values(keys, draft, target, *, num_drafts, repetitions):
  """`VALUES` at every token: [T, 8]."""

  def sampled(key, p, q):
    for own, sampler in zip(jax.random.split(key), SAMPLED.values()):
      draw = functools.partial(sampler, num_drafts=num_drafts)
      samples = jax.vmap(draw, (0, None, None))(
        jax.random.split(own, repetitions), jnp.log(p), jnp.log(q)
      )
      yield jnp.mean(samples.is_match)

  def one(step):
    _, p, q = step
    computed = [value(p, q, num_drafts) for value in COMPUTED.values()]
    return jnp.stack([*computed, *sampled(*step)])

  return jax.lax.map(one, (keys, draft, target))


def measure(setup: protocol.Setup, job: protocol.Job, once) -> dict:
  """Columns of a job: sums over the tokens of every row."""
  options = dataclasses.replace(
    setup.options, draft_temperatures=_temperature(setup.config)
  )
  # Every K looks at the same text; a device that shares a batch with others
  # writes it anew, which is cheaper than keeping laws of many batches.
  place = job.dataset, job.seed, job.number
  rows, *laws = once(place, lambda: laws_along(setup, job, options))
  num_drafts = job.setting.num_drafts
  key = protocol.dataset_key(
    Domain.TRIALS, job.seed, job.dataset, num_drafts, job.number
  )
  values = _values(
    jax.random.split(key, len(laws[0])),
    *laws,
    num_drafts=num_drafts,
    repetitions=setup.config.repetitions,
  )
  columns = dict(zip(VALUES, np.asarray(values).T, strict=True))
  return sums(rows, columns, job.batch.size)


def settings_of(config) -> dict[str, Setting]:
  """The rows of the table: a K each."""
  _temperature(config)
  return {f'K{count}': Setting(count) for count in config.num_drafts}


def _temperature(config) -> tuple[float] | None:
  found = [protocol.temperatures(text) for text in config.draft_temperatures]
  if len(found) != 1 or len(found[0] or (1.0,)) != 1:
    raise ValueError(
      'config.draft_temperatures must be one number here, got '
      f'{config.draft_temperatures}: the optimum is known for iid drafts.'
    )
  return found[0]


def summarize(groups: dict, place: tuple[str, Setting], setup) -> dict:
  """Columns of a row: means over tokens, standard errors over prompts."""
  del setup
  names = 'tokens', *VALUES
  columns = dict(zip(names, protocol.per_prompt(groups[place], names)))
  columns = {name: each.sum(axis=0) for name, each in columns.items()}
  tokens = columns.pop('tokens')
  row = standard_errors.ratios(columns, tokens)
  return row | {'tokens': int(tokens.sum())}


# Mean matching probability of a step against K: a panel per data set.
plot = functools.partial(
  plots.columns,
  x='num_drafts',
  curves=_CURVES,
  across='dataset',
  title=lambda row: row['dataset'],
  labels=('number of drafts $K$', 'mean matching probability'),
  sharey=False,
)
run = protocol.Table(
  COLUMNS, settings_of, measure, summarize, fields=FIELDS, legend=LEGEND
).experiment(matching=plot)
