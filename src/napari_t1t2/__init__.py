"""Synthetic T1 and T2 contrasts in napari: train a CycleGAN, translate the layer on screen. Not for diagnosis."""

__version__ = "0.1.0"
