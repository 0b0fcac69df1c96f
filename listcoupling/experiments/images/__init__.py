"""Image codec: distortion tables, curves and examples; trains first."""

from listcoupling.experiments.images.fitting import train_models
from listcoupling.experiments.images.table import SWEEP, TABLE

__all__ = ['SWEEP', 'TABLE', 'train_models']
