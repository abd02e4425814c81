"""The networks, their training and their use. Knows nothing of Qt or napari."""
