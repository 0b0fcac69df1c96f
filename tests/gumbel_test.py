import ast
import inspect
import itertools
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from scipy import stats

import listcoupling
from configs import toy as toy_config
from listcoupling import coupling, gumbel, rejection, weighted_minhash
from listcoupling.compression import gaussian, lattices
from listcoupling.data import side_information
from listcoupling.decoding import text
from listcoupling.experiments import gaussian as gaussian_table
from listcoupling.experiments import toy
from listcoupling.gumbel import Domain
from listcoupling.image_codec import scheme
from listcoupling.training import codeword_decoder
from tests import statistics

VOCAB = 151_936


def _peaked():
  """One token of .99 and a flat tail of .01 in all."""
  return jnp.full(VOCAB, np.log(0.01 / (VOCAB - 1))).at[0].set(np.log(0.99))


def _tail_count(noise_of, trials, seed=0):
  """How often a race on the peaked law ends in the tail."""
  law = _peaked()

  @jax.jit
  def one(index):
    key = jax.random.fold_in(jax.random.key(seed), index)
    return gumbel.race(noise_of(key), law) != 0

  return int(np.sum(jax.lax.map(one, jnp.arange(trials))))


def test_transform_is_accurate_over_all_bits():
  rng = np.random.default_rng(0)
  bits = np.concatenate(
    [
      np.arange(4096),
      2**32 - 1 - np.arange(4096),
      rng.integers(0, 2**32, 200_000),
      2 ** np.arange(32),
    ]
  ).astype(np.uint32)
  noise = np.asarray(jax.jit(gumbel.from_bits)(bits), np.float64)
  exact = -np.log1p(-(bits.astype(np.float64) + 0.5) * 2.0**-32)
  # As promised: the roundings of w cancel, and counting them hides errors.
  error = float(re.search(r'to (\S+) relative', gumbel.from_bits.__doc__)[1])
  assert np.max(np.abs(noise / exact - 1)) < error


@pytest.mark.parametrize('stream', [0, 3, gumbel.RESIDUAL])
def test_bits_are_those_of_jax(stream):
  key = jax.random.key(5)
  expected = jax.random.bits(jax.random.fold_in(key, stream), (VOCAB,))
  np.testing.assert_array_equal(gumbel._bits(key, VOCAB, stream), expected)
  for position in (stream, 2**31, 2**32 - 1):
    np.testing.assert_array_equal(
      jax.random.key_data(gumbel.position_key(key, position)),
      jax.random.key_data(jax.random.fold_in(key, position)),
    )


def test_keys_of_rows_are_those_of_their_numbers():
  key, rows = jax.random.key(1), np.array([5, 0, 2**31])
  found = jax.random.key_data(gumbel.row_keys(key, rows))
  for own, row in zip(found, rows):
    wanted = jax.random.key_data(gumbel.position_key(key, row))
    np.testing.assert_array_equal(own, wanted)


@pytest.mark.parametrize('stream', [0, 3, gumbel.RESIDUAL])
def test_noise_at_chosen_atoms_is_bitwise_the_dense_noise(stream):
  key = gumbel.position_key(jax.random.key(1), 77)
  dense = np.asarray(gumbel.exponential(key, VOCAB, stream))
  chosen = np.random.default_rng(0).integers(0, VOCAB, (8, 64))
  for draw in (gumbel.exponential, jax.jit(gumbel.exponential)):
    sparse = np.asarray(draw(key, chosen, stream))
    np.testing.assert_array_equal(sparse, dense[chosen])
  np.testing.assert_array_equal(
    np.asarray(gumbel.gumbel(key, chosen, stream)),
    np.asarray(gumbel.gumbel(key, VOCAB, stream))[chosen],
  )
  assert not (np.asarray(gumbel.exponential(key, chosen, 9)) == sparse).any()


def test_noise_does_not_depend_on_padding_batch_or_order():
  key = jax.random.key(2)
  dense = np.asarray(gumbel.exponential(key, 1000, 4))
  longer = np.asarray(gumbel.exponential(key, 1777, 4))[:1000]
  streams = np.asarray(gumbel.exponential_streams(key, 1000, 8))[4]
  batched = jax.vmap(
    lambda t: gumbel.exponential(gumbel.position_key(key, t), 50)
  )(jnp.arange(9))
  alone = gumbel.exponential(gumbel.position_key(key, 6), 50)
  np.testing.assert_array_equal(dense, longer)
  np.testing.assert_array_equal(dense, streams)
  np.testing.assert_array_equal(batched[6], alone)


def test_noise_is_exponential():
  noise = np.asarray(gumbel.exponential(jax.random.key(3), 400_000))
  assert stats.kstest(noise, 'expon').pvalue > statistics.LEVEL
  assert stats.kstest(noise * 1.02, 'expon').pvalue < statistics.LEVEL
  gumbels = np.asarray(gumbel.gumbel(jax.random.key(3), 400_000))
  assert stats.kstest(gumbels, 'gumbel_r').pvalue > statistics.LEVEL
  uniforms = np.asarray(gumbel.uniform(jax.random.key(3), 400_000))
  assert stats.kstest(uniforms, 'uniform').pvalue > statistics.LEVEL


def test_streams_and_positions_are_independent():
  key = jax.random.key(4)
  count = 200_000
  first = gumbel.uniform(gumbel.position_key(key, 0), count)
  others = [
    gumbel.uniform(gumbel.position_key(key, 0), count, 1),
    gumbel.uniform(gumbel.position_key(key, 1), count),
    gumbel.uniform(gumbel.position_key(key, 1), count, gumbel.ACCEPT),
  ]
  for other in others:
    correlation = np.corrcoef(first, other)[0, 1]
    assert abs(correlation) < statistics.SIGMAS / np.sqrt(count)


def test_tail_of_a_peaked_law_keeps_its_mass():
  trials = 4000
  count = _tail_count(lambda key: gumbel.exponential(key, VOCAB), trials)
  statistics.assert_proportion(count, trials, 0.01)


@pytest.mark.parametrize(
  'coarse',
  [
    lambda key: jnp.exp(-jax.random.gumbel(key, (VOCAB,))),
    lambda key: (
      -jnp.log(
        jax.random.uniform(key, (VOCAB,), minval=jnp.finfo(jnp.float32).tiny)
      )
    ),
    lambda key: jax.random.exponential(key, (VOCAB,)),
  ],
  ids=['gumbel-low', 'log-uniform', 'exponential'],
)
def test_control_noise_on_the_23_bit_grid_fails(coarse):
  trials = 4000
  count = _tail_count(coarse, trials)
  z = statistics.proportion_z(count, trials, 0.01)
  assert abs(z) > statistics.SIGMAS


def test_control_bfloat16_noise_ties():
  noise = gumbel.exponential(jax.random.key(0), 4096)
  assert np.unique(np.asarray(noise)).size > 4090
  assert np.unique(np.asarray(noise.astype(jnp.bfloat16))).size < 1500


def test_argmax_agrees_with_jnp():
  inf, nan = np.inf, np.nan
  rows = np.array(
    [
      [1, 3, 3, 2],
      [-inf, -inf, -inf, -inf],
      [inf, 0, inf, nan],
      [0, nan, nan, inf],
      [-inf, -5, -inf, -5],
      [nan, nan, nan, nan],
    ],
    np.float32,
  )
  for dtype in (jnp.float32, jnp.bfloat16):
    x = jnp.asarray(rows, dtype)
    for function in (gumbel.argmax, jax.jit(gumbel.argmax)):
      np.testing.assert_array_equal(function(x), jnp.argmax(x, axis=-1))
  x = jax.random.randint(jax.random.key(0), (64, 999), 0, 50)
  np.testing.assert_array_equal(gumbel.argmax(x), jnp.argmax(x, axis=-1))


def test_first_arrival_of_impossible_rows_is_minus_one():
  inf, nan = np.inf, np.nan
  times = jnp.array([[inf, inf], [nan, 1.0], [2.0, 2.0], [inf, 3.0]])
  assert gumbel.first_arrival(times).tolist() == [-1, -1, 0, 1]
  # Logarithms of times may be below zero.
  assert gumbel.first_arrival(times - 4).tolist() == [-1, -1, 0, 1]
  noise = gumbel.exponential(jax.random.key(0), 3)
  laws = jnp.array([[-inf, -inf, -inf], [nan, 0, 0], [-inf, -200.0, -inf]])
  assert jax.jit(gumbel.race)(noise[None], laws).tolist() == [-1, -1, 1]


def test_one_nan_in_a_long_row_is_seen():
  """XLA's CPU reductions lose it in rows of a thousand and more."""
  row = jnp.zeros(5000).at[jnp.array([7, 4000])].set(jnp.array([jnp.nan, 9.0]))
  noise = gumbel.exponential(jax.random.key(0), 5000)
  assert int(jax.jit(gumbel.race)(noise, row)) == -1
  assert int(jax.jit(gumbel.first_arrival)(noise + row)) == -1
  assert int(jax.jit(gumbel.argmax)(row)) == 7
  assert np.isnan(jax.jit(gumbel.largest)(row)).all()
  # Without it there is a winner.
  clean = jnp.nan_to_num(row)
  assert int(jax.jit(gumbel.race)(noise, clean)) >= 0
  assert int(gumbel.argmax(clean)) == 4000 and gumbel.largest(clean) == 9


def test_one_reduction_finds_what_passes_find():
  """The code of accelerators, on ties, infinities and the mark of NaN, too."""
  times = gumbel.exponential_streams(jax.random.key(1), 2000, 8)
  times = times.at[1, jnp.array([3, 1999])].set(1e-12)
  times = times.at[2].set(jnp.inf).at[3, 17].set(-1.0)
  wanted = jax.jit(gumbel._least_by_passes)(times)
  found = jax.jit(gumbel._least_by_pairs)(times)
  for one, other in zip(found, wanted):
    np.testing.assert_array_equal(one[:2], other[:2])
    np.testing.assert_array_equal(one[3:], other[3:])
  assert found[1][1] == 3 and not np.isfinite(found[0][2])


@pytest.mark.parametrize(
  ('platform', 'reductions'), [('cpu', 2), ('cuda', 1), ('tpu', 1)]
)
def test_accelerators_reduce_the_times_once(platform, reductions):
  shape = jax.ShapeDtypeStruct((4, 2000), jnp.float32)
  lowered = export.export(jax.jit(gumbel.first_arrival), platforms=[platform])(
    shape
  ).mlir_module()
  assert lowered.count('stablehlo.reduce') == reductions
  barrier = 'optimization_barrier' in lowered
  assert barrier == (platform == 'cpu')


def test_earliest_is_the_minimum():
  noise = gumbel.exponential_streams(jax.random.key(0), 999, 5)
  np.testing.assert_array_equal(
    gumbel.earliest(noise), np.asarray(noise).min(axis=0)
  )
  held = noise.at[1:].set(jnp.inf)
  np.testing.assert_array_equal(gumbel.earliest(held), noise[0])


def test_noise_is_the_same_on_several_devices():
  """Sharding the atoms changes no bit (run on however many there are)."""
  mesh = jax.make_mesh(
    (jax.device_count(),),
    ('atoms',),
    axis_types=(jax.sharding.AxisType.Auto,),
  )
  sharding = jax.sharding.NamedSharding(
    mesh, jax.sharding.PartitionSpec('atoms')
  )
  size = 64 * jax.device_count()
  draw = jax.jit(
    lambda key: gumbel.exponential(key, size), out_shardings=sharding
  )
  key = jax.random.key(5)
  np.testing.assert_array_equal(draw(key), gumbel.exponential(key, size))


@pytest.mark.parametrize('x64', [False, True])
def test_a_seed_has_one_key_whatever_the_settings(x64):
  with jax.enable_x64(x64), jax.default_prng_impl('rbg'):
    for seed in (0, 7, np.int32(7), 2**31, gumbel.MAX_SEED):
      key = gumbel.seed_key(seed)
      assert jax.random.key_data(key).tolist() == [0, int(seed)]
      assert str(jax.random.key_impl(key)) == 'threefry2x32'


@pytest.mark.parametrize('seed', [-1, 2**32, 2**40, 0.5, None, '7'])
def test_seeds_that_jax_would_cut_are_refused(seed):
  with pytest.raises(ValueError, match=f'4294967295, got {seed!r}'):
    gumbel.seed_key(seed)


SEED = gumbel.seed_key(0)
COUNT = 64  # rows, positions, steps, codebooks
STREAMS = [
  *range(COUNT),
  *range(gumbel.FRESH, gumbel.FRESH + COUNT),
  gumbel.CHOICE,
  gumbel.ACCEPT,
  gumbel.RESIDUAL,
]


def _each(keys, numbers):
  """Every number folded into every key: [keys * numbers]."""
  numbers = jnp.asarray(np.asarray(numbers, np.uint32))
  fold = jax.vmap(jax.vmap(gumbel._fold, (None, 0)), (0, None))
  return fold(keys, numbers).reshape(-1)


def _words(*keys):
  """The keys that bits are drawn from, as numbers."""
  words = np.concatenate([jax.random.key_data(each) for each in keys])
  return words[:, 0].astype(np.uint64) << np.uint64(32) | words[:, 1]


def test_numbers_of_the_register_give_keys_of_their_own():
  values = [int(domain) for domain in Domain.__members__.values()]
  assert len(set(values)) == len(values) == len(Domain)
  assert 2**31 <= min(values) and max(values) < 2**32
  assert max(STREAMS) < 2**31  # nor is a stream, a row or a position a domain
  seed = SEED[None]
  domains = _each(seed, values)
  jobs = _each(domains, range(COUNT))  # a step, a codebook, a repeat
  rows = _each(seed, range(COUNT))
  samples = _each(_each(rows, [int(Domain.SAMPLE)]), range(1, 4))
  texts = jnp.concatenate([rows, samples])
  drawn = _words(
    _each(seed, STREAMS),  # a coupling on the seed itself
    _each(_each(texts, range(COUNT)), STREAMS[::16]),  # a text's positions
    domains,  # numbers drawn from the key of a job
    jobs,
    _each(jobs, STREAMS[::16]),  # races of a job
  )
  assert np.unique(drawn).size == drawn.size


def test_training_and_codebooks_of_one_seed_have_nothing_in_common():
  def keys(domain):
    return _words(_each(_each(SEED[None], [int(domain)]), range(COUNT)))

  steps, books = keys(Domain.TRAINING_STEP), keys(Domain.CODEBOOK)
  assert not np.intersect1d(steps, books).size
  # Control: numbers folded into the bare seed are the same for both.
  bare = _words(_each(SEED[None], range(COUNT)))
  assert np.intersect1d(bare, _words(_each(SEED[None], range(9)))).size == 9


# Who makes keys, random numbers or seeds in other ways, and why it may.
_PARTS = 'parts of a key of its own domain and numbers, which nobody else folds'
_NUMPY = 'which of the given items are taken; shares no bits with threefry'
OWN_KEYS = {
  ('gumbel._fold', 'wrap_key_data'): 'the register itself',
  ('gumbel.seed_key', 'wrap_key_data'): 'the register itself',
  ('transport._key', 'wrap_key_data'): 'the words of a key that a file holds',
  ('placement._put', 'wrap_key_data'): 'moves a key between devices',
  ('aot._program', 'split'): 'a shape: nothing is drawn',
  ('random_pair._draw', 'fold_in'): 'leaves of a model, of its own key',
  ('codeword_decoder._from_sides', 'split'): _PARTS,
  ('codeword_decoder._train', 'split'): _PARTS,
  ('codeword_decoder.train_classifier', 'split'): _PARTS,
  ('codec.balanced_labels', 'split'): _PARTS,
  ('matching._values', 'split'): _PARTS,
  ('matching.measure', 'split'): _PARTS,
  ('next_token.match_rates', 'split'): _PARTS,
  ('speed._draws_and_limits', 'split'): _PARTS,
  ('toy._sampled', 'split'): _PARTS,
  ('toy.coupling_table', 'split'): _PARTS,
  ('vae.loss_fn', 'split'): _PARTS,
  ('vae.make_train_steps', 'split'): _PARTS,
  ('baselines.measure', 'default_rng'): 'prompts of a benchmark, from 0',
  ('device_report._workload', 'default_rng'): 'prompts of a benchmark, from 0',
  ('prompt_choice.choose', 'default_rng'): _NUMPY,
  ('next_token.contexts', 'default_rng'): _NUMPY,
  ('list_quantiser.fit_codewords', 'random_state'): _NUMPY,
  ('protocol._jobs', 'seed arithmetic'): 'seeds of a table follow each other',
  ('table_pairs._measure', 'seed arithmetic'): 'pairs are of seeds in a row',
}
_MAKERS = {
  *('key', 'PRNGKey', 'fold_in', 'split', 'clone', 'wrap_key_data'),
  *('default_rng', 'RandomState', 'Random', 'seed'),
}


def _by_hand(path):
  """(module.function, what) of all that makes keys, numbers or seeds."""
  for outer in ast.parse(path.read_text()).body:
    name = f'{path.stem}.{getattr(outer, "name", "")}'
    for node in ast.walk(outer):
      if isinstance(node, ast.Call):
        owner, _, called = ast.unparse(node.func).rpartition('.')
        if owner.split('.')[-1] == 'random' and called in _MAKERS:
          yield name, called
        if any(each.arg == 'random_state' for each in node.keywords):
          yield name, 'random_state'
      if isinstance(node, ast.BinOp):
        sides = ast.unparse(node.left), ast.unparse(node.right)
        if any(
          re.fullmatch(r'([\w.]+\.)?_?seed(\.value)?', x, re.I) for x in sides
        ):
          yield name, 'seed arithmetic'


def test_keys_are_made_by_the_register_alone(tmp_path):
  package = pathlib.Path(listcoupling.__file__).parent
  folders = package, *(package.parent / x for x in ('scripts', 'configs'))
  found = {
    each
    for folder in folders
    for path in folder.rglob('*.py')
    for each in _by_hand(path)
  }
  assert found == OWN_KEYS.keys()
  control = tmp_path / 'control.py'
  control.write_text(
    'key = jax.random.fold_in(jax.random.key(seed + 1), 7)\n'
    'rng = np.random.default_rng(FLAGS.seed)\n'
    'def two(key): return random.split(key), KMeans(random_state=0)\n'
  )
  assert set(_by_hand(control)) == {
    *(('control.', x) for x in ('fold_in', 'key', 'default_rng')),
    ('control.', 'seed arithmetic'),
    ('control.two', 'split'),
    ('control.two', 'random_state'),
  }


def _law(size):
  return jnp.log(jnp.arange(1.0, size + 1))


def _couplings(key):
  laws = _law(5), _law(5)[::-1]
  coupling.gumbel_list_sampling(key, *laws, num_drafts=3)
  rejection._propose(key, laws[0], 3)


def _public_sequence(key):
  laws = _law(5), _law(5)[::-1]
  weighted_minhash.weighted_minhash_coupling(key, *laws)


def _texts(key):
  """Every stream of the first positions of two rows, and of a second text."""
  for row in text._keys(key, 2, 2):
    for position in range(4):
      at = gumbel.position_key(row, position)
      gumbel.exponential_streams(at, 5, 3)
      streams, twos = jnp.arange(2), jnp.full(2, 2)
      coupling.grouped_streams(at, 5, streams, ranks=streams, group_sizes=twos)
      for stream in (gumbel.ACCEPT, gumbel.RESIDUAL):
        gumbel.uniform(at, 5, stream)


def _images(key):
  rows = jnp.arange(3, dtype=jnp.int32)
  settings = scheme.Settings(4, 2, 2)
  book = scheme.draw_codebook(key, rows, 4, 2)
  labels = scheme.draw_labels(book, settings)
  scheme._encode_race(jnp.zeros((3, 4)), labels, book, settings)


def _dither(key):
  keys = scheme._prepare_lattice(key, jnp.arange(3), None, None)
  scheme._dither(keys, lattices.make_code('Z', 2, num_groups=1))


def _crops(key):
  left = jnp.zeros((3, 6, 5))
  side_information.draw_sides(key, left, left, 2, (2, 2))
  side_information.random_corners(key, 3, 2, (6, 5), (2, 2))


def _gaussian(key):
  gaussian.simulate(
    key, 0.05, 4, num_trials=3, num_decoders=2, num_candidates=5
  )


def _repeats(key):
  del key
  for repeat in range(2):
    for one in gaussian_table.trial_keys(0, repeat):
      _gaussian(one)


def _classifier(key):
  sample = codeword_decoder._from_sides(jnp.zeros((4, 2, 1)), jnp.zeros(4), 3)
  sample(gumbel.domain_key(key, Domain.CLASSIFIER_INIT))
  for step in range(3):
    sample(gumbel.domain_key(key, Domain.CLASSIFIER_STEP, step))


def _toy(key):
  del key
  config = toy_config.get_config()
  config.update(num_pairs=2, num_atoms=5, trials=3, num_drafts=(4,))
  toy.row(0, config, 4)


def _coupling_table(key):
  del key
  toy.coupling_table(0, trials=6)


USERS = {
  'a coupling': _couplings,
  'the public sequence of Weighted MinHash': _public_sequence,
  'texts and their further samples': _texts,
  'codebooks, labels and races of images': _images,
  'dither of a lattice': _dither,
  'crops': _crops,
  'the Gaussian source': _gaussian,
  'repeats of a table': _repeats,
  'a classifier in training': _classifier,
  'the table of toy laws': _toy,
  'the table of couplings': _coupling_table,
}


@pytest.fixture
def drawn(monkeypatch):
  """(function) -> the keys that bits were drawn from when it ran on a key."""
  seen = set()

  def note(words):
    seen.add(tuple(np.asarray(words).tolist()))

  def bits(key, atoms, stream):
    # As `test_bits_are_those_of_jax`: one operation where each would be run.
    return jax.random.bits(jax.random.fold_in(key, stream), (atoms,))

  # What all of `jax.random` draws by.
  source = inspect.getmodule(inspect.unwrap(jax.random.uniform))

  def random_bits(key, *args, old=source._random_bits, **options):
    jax.debug.callback(note, jax.random.key_data(key))
    return old(key, *args, **options)

  def run(function, key=SEED):
    seen.clear()
    with jax.disable_jit():  # what is compiled would be drawn unseen
      function(key)
    jax.effects_barrier()
    return set(seen)

  monkeypatch.setattr(gumbel, '_bits', bits)
  monkeypatch.setattr(gumbel, '_fold', jax.random.fold_in)
  monkeypatch.setattr(toy, '_computed', lambda p, q, k: np.zeros((len(p), 4)))
  few = {name: (*toy._SCHEMES[name][:2], None) for name in ('GLS',)}
  monkeypatch.setattr(toy, '_SCHEMES', few)
  monkeypatch.setattr(source, '_random_bits', random_bits)
  return run


def test_no_two_users_of_a_seed_draw_the_same_bits(drawn):
  users = {name: drawn(user) for name, user in USERS.items()}
  assert min(map(len, users.values())) > 1
  shared = [
    (one, other)
    for one, other in itertools.combinations(users, 2)
    if users[one] & users[other]
  ]
  assert not shared

  # Control: halves of a key that is split are its positions 0 and 1.
  def by_hand(key):
    key = jax.random.split(gumbel.position_key(key, 0))[1]
    gumbel.uniform(key, 5, stream=2)

  assert drawn(by_hand) <= users['texts and their further samples']


@pytest.mark.parametrize('size', [10, 1000, 1024])
def test_chosen_atoms_have_the_dense_noise_outside_of_jit(size):
  key = gumbel.seed_key(0)
  dense = np.asarray(gumbel.exponential(key, size))
  for atoms in ([7, size - 1, 0], [3], range(0, size, 7)):
    kept = jnp.array(list(atoms))
    chosen = np.asarray(gumbel.exponential(key, kept))
    np.testing.assert_array_equal(chosen, dense[np.asarray(kept)])
