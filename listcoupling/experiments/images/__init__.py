"""Image codec: distortion tables, curves and examples; trains first."""

from listcoupling.experiments.images.table import run, run_sweep

__all__ = ['run', 'run_sweep']
