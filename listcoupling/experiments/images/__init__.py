"""Image codec: distortion tables, curves and examples; trains first."""

from listcoupling.experiments.images.fitting import train_models
from listcoupling.experiments.images.rows import COLUMNS
from listcoupling.experiments.images.table import evaluate

__all__ = ['COLUMNS', 'evaluate', 'train_models']
