"""Patches of the two photographs that scikit-learn carries.

A temple and a flower, 427 x 640 pixels each, in grey. A patch is 16 x 32: its
right half is a source, its left half lies beside it in the same photograph.
Those of the right quarter are for tests and share no pixel with the others;
patches to train on overlap each other, sources to test do not.

Legend: R patches to train on, E to test.
"""

import numpy as np

HEIGHT, WIDTH = 16, 32
_STRIDE = 4  # of patches to train on
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def _photographs() -> np.ndarray:
  """[2, 427, 640] uint8."""
  from sklearn import datasets

  colours = np.stack(datasets.load_sample_images().images)
  return np.rint(colours @ _LUMA).astype(np.uint8)


def cut(photographs, rows: int, columns: int) -> np.ndarray:
  """Patches of all photographs, from left to right: [., 16, 32].

  Args:
    photographs: [., H, W].
    rows: from one patch to the next below.
    columns: from one patch to the next at the right.

  Example:
    >>> cut(np.zeros((2, 20, 36)), 4, 4).shape
    (8, 16, 32)
  """
  windows = np.lib.stride_tricks.sliding_window_view(
    photographs, (HEIGHT, WIDTH), (1, 2)
  )[:, ::rows, ::columns]  # [P, ., ., 16, 32]
  return np.moveaxis(windows, 2, 0).reshape(-1, HEIGHT, WIDTH)


def read_patches() -> tuple[np.ndarray, np.ndarray]:
  """Patches to train on and to test.

  Returns:
    [R, 16, 32] and [E, 16, 32] uint8, both from left to right.

  Raises:
    ImportError: without Pillow, which reads the photographs.

  Example:
    >>> [x.shape for x in read_patches()]
    [(23278, 16, 32), (468, 16, 32)]
  """
  photographs = _photographs()
  border = photographs.shape[2] * 3 // 4
  return (
    cut(photographs[:, :, :border], _STRIDE, _STRIDE),
    cut(photographs[:, :, border:], HEIGHT, WIDTH // 2),
  )
