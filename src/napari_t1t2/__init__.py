"""Synthetic T1 and T2 contrasts in napari: train a CycleGAN, translate the layer on screen. Not for diagnosis."""

from importlib.metadata import version

__version__ = version("napari-t1t2")
