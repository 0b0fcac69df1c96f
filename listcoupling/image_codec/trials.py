"""Many images sent to all decoders at once, without a file between.

What trains on the outcomes of the codec and what tabulates them call the same
schemes as a file does. Side information of K decoders is drawn here; image r
depends on (key, r) alone.

Legend: R images, N candidates, K decoders, L messages, G groups, [H, W] source,
[h, w] side.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from listcoupling import bounds
from listcoupling.data import side_information
from listcoupling.image_codec import scheme as schemes


class Trials(NamedTuple):
  """R images made ready for every number of decoders up to K and every L."""

  right: jax.Array  # [R, H, W]
  sides: jax.Array  # [R, K, h, w]
  prepared: schemes.Prepared | jax.Array | None  # see `scheme.Scheme`


class Sent(NamedTuple):
  """R images at K decoders."""

  images: jax.Array  # [R, K, H, W]
  error: jax.Array  # [R, K] squared error per pixel
  found: jax.Array  # [R, K] decoder holds the encoder's choice
  error_bound: jax.Array  # [R] on the chance that nobody finds it, or NaN


def prepare(
  key, name: str, model: schemes.Model, halves, *, num_candidates: int,
  num_decoders: int, side_shape, side_kind: str = 'crop', side_noise=0.0,
) -> Trials:  # fmt: skip
  """Side information, which depends on no model, and candidates.

  Args:
    key: typed key; reusable for other domains.
    name: of the scheme.
    model: its networks.
    halves: `data.images.Halves` of R images.
    num_candidates: N.
    num_decoders: K, the most there will be.
    side_shape: (h, w) or (h, w, C).
    side_kind: of `data.side_information.KINDS`.
    side_noise: standard deviation of noise in it.
  """
  right = jnp.asarray(halves.right)
  sides = side_information.draw_sides(
    key, jnp.asarray(halves.left), right, num_decoders, tuple(side_shape),
    kind=side_kind, noise=side_noise,
  )  # fmt: skip
  settings = schemes.Settings(num_candidates, num_decoders, None)
  prepared = _prepare(key, model, right, sides, name=name, settings=settings)
  return Trials(right, sides, prepared)


@functools.partial(jax.jit, static_argnames=('name', 'settings'))
def _prepare(key, model, right, sides, *, name, settings):
  rows = jnp.arange(len(right), dtype=jnp.int32)
  return schemes.SCHEMES[name].prepare(
    key, rows, model, settings, images=right, sides=sides
  )


def transmit(model: schemes.Model, trials: Trials, settings, name: str):
  """Sends all images to the first K decoders.

  Args:
    model: networks and fit.
    trials: for at least K decoders.
    settings: `scheme.Settings`.
    name: of the scheme.

  Returns:
    The candidates of these decoders, `Encoding` and `Decoding`.
  """
  scheme, count = schemes.SCHEMES[name], settings.num_decoders
  prepared = trials.prepared
  if isinstance(prepared, schemes.Prepared):
    weights = prepared.decoder_log_weights[:, :count]
    prepared = prepared._replace(decoder_log_weights=weights)
  encoding = scheme.encode(model, prepared, trials.right, settings)
  decoding = scheme.decode(
    model, prepared, encoding.message, trials.sides[:, :count],
    jnp.arange(count, dtype=jnp.int32), settings,
  )  # fmt: skip
  return prepared, encoding, decoding


def by_messages(function: Callable) -> Callable:
  """Compiles function(model, trials, settings, name) for all L at once.

  A lattice alone is made for one L.
  """

  @functools.partial(jax.jit, static_argnames=('settings', 'name'))
  def compiled(model, trials, num_messages, *, settings, name):
    if num_messages is not None:
      settings = settings._replace(num_messages=num_messages)
    return function(model, trials, settings, name)

  def call(model, trials, settings, name):
    num_messages = None
    if name != 'lattice':
      num_messages = settings.num_messages
      settings = settings._replace(num_messages=None)
    return compiled(model, trials, num_messages, settings=settings, name=name)

  return call


@by_messages
def send(model, trials, settings, name) -> Sent:
  """As `transmit`: what decoders have, how far off it is, and the bound."""
  prepared, encoding, decoding = transmit(model, trials, settings, name)
  found = decoding.index == encoding.index[:, None]
  bound = jnp.full(len(trials.right), jnp.nan, jnp.float32)
  if name == 'gls' and not settings.shared_race:
    # Theorem 2 is about a race for each decoder and labels that know nothing.
    bound = error_bound(prepared, encoding.index, settings)
  error = squared_error(decoding.images, trials.right)
  return Sent(decoding.images, error, found, bound)


def squared_error(images, right) -> jax.Array:
  """Squared error per pixel: [R, K, H, W] against [R, H, W] -> [R, K]."""
  axes = tuple(range(2, images.ndim))
  return jnp.mean((images - right[:, None]) ** 2, axes)


def error_bound(prepared: schemes.Prepared, index, settings) -> jax.Array:
  """`bounds.codebook_error_bound` [R] of the encoder's candidates [R]."""
  place = index[:, None]
  meant = jax.nn.softmax(prepared.encoder_log_weights)  # [R, N]
  meant = jnp.take_along_axis(meant, place, 1)[:, 0]
  heard = jax.nn.softmax(prepared.decoder_log_weights)  # [R, K, N]
  heard = jnp.take_along_axis(heard, place[:, None], 2)[..., 0]
  return bounds.codebook_error_bound(
    meant, heard, settings.num_messages, num_groups=settings.num_groups
  )
