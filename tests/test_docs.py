"""That README and docs/ speak of what is there: links, commands, flags, messages, settings and code."""

import ast
import re
import runpy
import shlex
from argparse import ArgumentParser, _SubParsersAction
from dataclasses import fields
from pathlib import Path

import pytest
from resolve import missing_imports

import napari_t1t2
from napari_t1t2.__main__ import _parser
from napari_t1t2.config import ModelConfig, TrainConfig

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "benchmarks/RESULTS.md", *DOCS]
BY_NAME = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
NOT_OURS = frozenset(
    f"--{name}"
    for name in (  # of torchrun and of sbatch
        *("nproc-per-node", "max-restarts", "nnodes", "rdzv-backend", "rdzv-id", "rdzv-endpoint", "shutdown-timeout"),
        *("nodes", "ntasks-per-node", "gpus-per-node", "cpus-per-task", "time", "signal", "requeue", "open-mode"),
    )
)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), flags=re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """The command lines of our program in a page's examples, and the ones in its text."""
    whole = [line for block in blocks(page, "sh") for line in block.replace("\\\n", " ").splitlines()]
    return [line[line.index("napari-t1t2") :] for line in whole if re.match(r"\s*napari-t1t2 ", line)] + [
        f"napari-t1t2 {rest}" for rest in re.findall(r"napari_t1t2 (train .*)", "\n".join(whole))
    ]


def parsers() -> dict[str, ArgumentParser]:
    (action,) = (a for a in _parser()._actions if isinstance(a, _SubParsersAction))
    return dict(action.choices)


def flags() -> set[str]:
    return {flag for parser in (_parser(), *parsers().values()) for flag in parser._option_string_actions}


def anchors(page: Path) -> set[str]:
    """The places of a page that a link may name, as GitHub makes them of its headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text_of(page), flags=re.M | re.S), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.strip().casefold()).replace(" ", "-") for heading in headings}


@BY_NAME
def test_each_link_leads_to_a_file_and_a_heading_that_exist(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(there), (
            f"{page.name} links to {target}, whose headings are {anchors(there)}"
        )


@BY_NAME
def test_each_line_of_a_table_has_as_many_cells_as_its_head(page):
    width = 0
    for line in text_of(page).splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not cells or not width or cells == width, line
        width = cells


def test_each_page_of_the_documentation_is_linked_from_the_readme():
    linked = set(re.findall(r"\]\(docs/([^)#]+)", text_of(ROOT / "README.md")))
    assert {page.name for page in (ROOT / "docs").glob("*.md")} <= linked


def test_the_readme_is_short_enough_to_be_read():
    assert len(text_of(ROOT / "README.md").splitlines()) <= 120


@BY_NAME
def test_each_example_of_a_command_is_one_that_the_program_takes(page, capsys):
    for line in commands(page):
        words = [word for word in shlex.split(line, comments=True)[1:] if word not in ("&", "$begin")]
        try:
            _parser().parse_args(words)
        except SystemExit as end:
            assert not end.code, f"{page.name}: {line}\n{capsys.readouterr().err}"


@pytest.mark.parametrize("page", [ROOT / "README.md", *DOCS], ids=lambda page: page.name)
def test_each_flag_that_is_spoken_of_exists(page):
    outside = re.sub(r"^```(?!sh\n).*?^```", "", text_of(page), flags=re.M | re.S)
    spoken_of = set(re.findall(r"(?<![\w-])(--[a-z][\w-]*)", outside))
    assert spoken_of <= flags() | NOT_OURS


@BY_NAME
def test_each_command_that_is_spoken_of_exists(page):
    assert set(re.findall(r"`napari-t1t2 ([a-z]+)", text_of(page))) <= parsers().keys()


def test_each_command_is_explained_somewhere():
    whole = " ".join(text_of(page) for page in PAGES)
    assert [name for name in parsers() if f"napari-t1t2 {name}" not in whole and f"`{name}`" not in whole] == ["demo"]
    assert "make demo" in whole


def test_the_page_of_the_api_is_that_of_the_docstrings():
    made = runpy.run_path(str(ROOT / "scripts/api.py"))
    assert made["page"]() == text_of(ROOT / "docs/api.md"), "run: python scripts/api.py"


def test_the_tables_of_settings_are_those_of_the_config():
    made = runpy.run_path(str(ROOT / "scripts/settings.py"))
    page = text_of(ROOT / "docs/settings.md")
    assert made["page"](page) == page, "run: python scripts/settings.py"
    for f in (*fields(TrainConfig), *fields(ModelConfig)):
        assert f.name == "model" or f"| `{f.name}` |" in page


@BY_NAME
def test_each_example_in_python_compiles_and_imports_what_there_is(page):
    for code in blocks(page, "python"):
        compile(code, str(page), "exec")
        assert missing_imports(code) == []


def test_each_example_in_the_page_on_scripting_uses_only_names_that_it_has():
    """All blocks together, in their order: what is loaded must have been made, imported or built in."""
    import builtins

    known = set(dir(builtins))
    for node in ast.walk(ast.parse("\n".join(blocks(ROOT / "docs/scripting.md", "python")))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            known |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            known.add(node.id)
        elif isinstance(node, ast.MatchStar | ast.MatchAs) and node.name:
            known.add(node.name)
    loaded = ast.walk(ast.parse("\n".join(blocks(ROOT / "docs/scripting.md", "python"))))
    assert {n.id for n in loaded if isinstance(n, ast.Name)} <= known


def test_each_message_in_troubleshooting_is_one_of_the_program():
    said = [
        node.value
        for path in Path(napari_t1t2.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    quoted = re.findall(r'^\| "(.*?)" \|', text_of(ROOT / "docs/troubleshooting.md"), flags=re.MULTILINE)
    assert len(quoted) > 15
    parts = [part.strip() for message in quoted for part in message.split("...") if part.strip()]
    assert [part for part in parts if not any(part in sentence for sentence in said)] == []
