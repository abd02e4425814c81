"""Whether what a piece of Python imports is there, without running it: for examples and benchmarks."""

import ast
import importlib


def missing_imports(source: str) -> list[str]:
    """What `source` imports anywhere, functions included, of this project that cannot be imported."""
    missing: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "napari_t1t2":
            missing += [f"{node.module}.{alias.name}" for alias in node.names if not _is_there(node.module, alias.name)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] == "napari_t1t2"]
            missing += [name for name in names if not _is_there(name)]
    return missing


def _is_there(module: str, name: str = "") -> bool:
    try:
        if not name or hasattr(importlib.import_module(module), name):
            return bool(importlib.import_module(module))
        importlib.import_module(f"{module}.{name}")
    except ModuleNotFoundError:
        return False
    return True
