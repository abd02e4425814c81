"""Make the README's picture of the window: `xvfb-run -s "-screen 0 1600x1000x24" python scripts/window.py`.

Needs a model: `make demo` has left one in `demo/run`.
"""

from pathlib import Path

import napari
from qtpy.QtCore import QCoreApplication

viewer = napari.Viewer()
viewer.window.resize(1400, 860)
viewer.open_sample("napari-t1t2", "heads")
t1 = viewer.layers[0]
viewer.layers.selection.active = t1
_, widget = viewer.window.add_plugin_dock_widget("napari-t1t2", "Translate")
widget.form["model"].value = Path("demo/run/model.safetensors")
widget.go.click()
widget.wait(600)
made = viewer.layers[-1]
viewer.layers["T2 (simulated head)"].visible = False
made.colormap, made.opacity = "inferno", 0.6
viewer.dims.set_current_step(0, t1.data.shape[0] * 45 // 100)
viewer.reset_view()
for _ in range(200):
    QCoreApplication.processEvents()
Path("docs").mkdir(exist_ok=True)
viewer.screenshot("docs/window.png", canvas_only=False, flash=False)
viewer.close()
