"""Image codec: distortion tables, curves and examples; trains first."""

from listcoupling.experiments.images.fitting import train_models
from listcoupling.experiments.images.rows import COLUMNS
from listcoupling.experiments.images.sweeps import COLUMNS as SWEEP_COLUMNS
from listcoupling.experiments.images.sweeps import sweep
from listcoupling.experiments.images.table import evaluate

__all__ = ['COLUMNS', 'SWEEP_COLUMNS', 'evaluate', 'sweep', 'train_models']
