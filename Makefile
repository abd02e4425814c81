# make demo: train on the sample heads and look at the result.    make test: the tests, GUI included.
# make env: only the environment, in .venv.                       make clean: remove what these made.
# make screenshots: every state of the window in screenshots/, and the pictures of the guide in docs/.

PYTHON ?= python3
BIN := .venv/bin

# What Debian has to bring. It ships python3 without the means to make an environment; Qt and OpenGL need more
# than pip's wheels wherever there is a window, and the tests need a screen where there is none.
VENV_PACKAGE = $(if $(wildcard $(BIN)/pip),,$(shell $(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	$(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'))
WINDOW_PACKAGES = libdbus-1-3 libegl1 libfontconfig1 libgl1 libgl1-mesa-dri libglib2.0-0 libopengl0 libx11-xcb1 \
	libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 \
	libxcb-xkb1 libxkbcommon-x11-0 libxkbcommon0
TESTING := $(filter test screenshots,$(MAKECMDGOALS))
PACKAGES = $(VENV_PACKAGE) $(if $(TESTING)$(DISPLAY)$(WAYLAND_DISPLAY),$(WINDOW_PACKAGES)) \
	$(if $(TESTING),$(if $(DISPLAY),,xauth xvfb))

.PHONY: demo test screenshots env clean system

demo: .venv/made
	$(BIN)/napari-t1t2 demo --out demo

# On every core, each with a virtual screen of its own (pytest-xvfb) where there can be one: windows that open and
# close on the real one take the keyboard from whoever sits at it.
test: export OMP_NUM_THREADS := 1
test: .venv/made
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal $(PYTEST_ARGS)

screenshots: .venv/made
	$(BIN)/python scripts/window.py screenshots

env: .venv/made

# All packages in one go, so that who may not install them is told one line.
system:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..." >&2; exit 1; }
	@scripts/debian-packages $(PACKAGES)

# One environment for all. The constraints pin torch too: an unpinned one would take the newest CUDA build.
.venv/made: pyproject.toml constraints.txt | system
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv demo screenshots dist build .pytest_cache .mypy_cache .ruff_cache
