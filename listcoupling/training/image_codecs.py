"""The codecs of one workdir: fitted, tried on many images, the best chosen.

A codec is a scheme for K decoders, L messages and G groups; its settings are
the beta of its VAE, the number N of candidates and the size M of a bin. What is
made here `image_codec.fits.load_model` reads.

Legend: R images, N candidates, K decoders, L messages, G groups, M codewords of
a bin.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from listcoupling.image_codec import fits
from listcoupling.image_codec import scheme as schemes
from listcoupling.image_codec.fits import Code, Setting
from listcoupling.image_codec.trials import Sent, Trials, send, squared_error
from listcoupling.training import image_fits


class Codecs:
  """Sends images by any codec, once what it needs is fitted.

  Args:
    context: see `image_fits.Context`.
  """

  def __init__(self, context: image_fits.Context):
    self.context = context
    self._fits = {}  # (scheme, beta) -> size -> model

  def fit(self, choices: Mapping[Code, Sequence[Setting]]) -> None:
    """Fits what codecs need in their settings, or reads what was fitted.

    One fit serves all of one scheme, beta and number of codewords, whatever
    their K; a later call replaces the fits of its schemes.

    Raises:
      ValueError: G or M cannot be those of a scheme.
    """
    wanted = {}  # (scheme, beta) -> size -> every K, in the order of L
    for code in sorted(choices, key=lambda code: code.num_messages):
      if code.family in ('gls', 'side_only'):  # need a VAE alone
        continue
      for setting in choices[code]:
        fits.check_code(code, setting.bin_size)
        sizes = wanted.setdefault((code.scheme, setting.beta), {})
        counts = sizes.setdefault(_size(code, setting), {})
        counts[code.num_decoders] = True
    for (scheme, beta), sizes in wanted.items():
      sizes = {size: [*counts] for size, counts in sizes.items()}
      fitted = image_fits.Fits(self.context, scheme, beta)
      self._fits[scheme, beta] = fitted.models(sizes)

  def prepare(self, key, halves, code: Code, setting: Setting) -> Trials:
    """Sides and candidates; the sides depend on the key alone."""
    family = code.family
    if family == 'side_only':
      family = 'list_quantiser'  # has no candidates
    return self.context.trials(
      key, family, setting.beta, halves, setting.num_candidates
    )

  def send(self, code: Code, trials: Trials, setting: Setting) -> Sent:
    """One codec, on trials made for it."""
    if code.family == 'side_only':
      model = next(iter(self.context.models.values()))
      return _answer_sides(model, trials, code.num_decoders)
    if code.family == 'gls':
      model = self.context.models[setting.beta]
    else:
      model = self._fits[code.scheme, setting.beta][_size(code, setting)]
    settings = schemes.Settings(
      num_candidates=setting.num_candidates,
      num_decoders=code.num_decoders,
      num_messages=code.num_messages,
      num_groups=code.num_groups,
      shared_race=code.scheme == 'shared_race',
      bin_size=setting.bin_size,
    )
    return send(model, trials, settings, code.family)

  def send_all(
    self, key, halves, codes: Iterable[tuple[Code, Setting]], name=None
  ) -> Iterator[tuple[Code, Setting, Sent]]:
    """Sends images by codecs of one family; those of a setting share trials.

    Args:
      key: typed key; reusable for other domains.
      halves: `data.images.Halves` of R images.
      codes: codecs and their settings.
      name: of the progress bar; None: none.
    """
    by_setting = {}
    for code, setting in codes:
      by_setting.setdefault(setting, []).append(code)
    for setting in tqdm.tqdm(sorted(by_setting), desc=name, disable=not name):
      own = by_setting[setting]
      trials = self.prepare(key, halves, own[0], setting)
      for code in own:
        yield code, setting, self.send(code, trials, setting)

  def choose(
    self, key, halves, choices: Mapping[Code, Sequence[Setting]]
  ) -> dict[Code, Setting]:
    """For each codec the setting whose best decoder errs least; kept.

    Args:
      key: typed key, of no images that judge the choice afterwards.
      halves: images, held out from training; None: the first is taken.
      choices: settings of each codec, all of one family.
    """
    (family,) = {code.family for code in choices}
    path = fits.choice_path(self.context.workdir, family)
    chosen = fits.read_choice(path)
    if not choices.keys() <= chosen.keys():
      chosen = self._best(key, halves, choices)
      fits.write_choice(path, chosen)
    return {code: chosen[code] for code in choices}

  def _best(self, key, halves, choices) -> dict[Code, Setting]:
    chosen = {code: settings[0] for code, settings in choices.items()}
    if halves is None or max(map(len, choices.values())) == 1:
      return chosen
    least = dict.fromkeys(choices, np.inf)
    codes = [(code, x) for code, settings in choices.items() for x in settings]
    for code, setting, sent in self.send_all(
      key, halves, codes, 'choice of settings'
    ):
      error = float(np.asarray(sent.error).min(1).mean())
      if error < least[code]:
        least[code], chosen[code] = error, setting
    return chosen


def _size(code: Code, setting: Setting) -> image_fits.Size:
  count = schemes.SCHEMES[code.family].num_codewords(
    code.num_decoders, code.num_messages, code.num_groups, setting.bin_size
  )
  return image_fits.Size(count, code.num_groups, setting.bin_size)


@functools.partial(jax.jit, static_argnames='num_decoders')
def _answer_sides(model, trials: Trials, num_decoders: int) -> Sent:
  """What a VAE makes of side information alone."""
  sides = trials.sides
  images = model.networks.side_only(
    model.params, sides.reshape(-1, *sides.shape[2:])
  )
  images = images.reshape(*sides.shape[:2], *trials.right.shape[1:])
  images = images[:, :num_decoders]
  error = squared_error(images, trials.right)
  missing = jnp.full_like(error, jnp.nan)
  return Sent(images, error, missing, missing[:, 0])
