# SPDX-License-Identifier: Apache-2.0
"""The Python blocks of the pages below run, in order, in an empty folder that has the repository's configs.

A block with ``title="FILE"`` is written to that file first; every other block is executed. Links of all pages, in
sub-folders too, lead to files and headings, pages that are named are there, and `make help` names every target.
"""

import importlib
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from pcperc.registry import ALL

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *("README.md", "docs/add_a_dataset.md", "docs/own_events.md", "docs/convolutions.md"),
    *("docs/models.md", "docs/sparse_tensor.md", "docs/migrate.md"),
]
NAME = re.compile(r"\b(?:pcperc|spnn)(?:\.\w+)+")
ALL_PAGES = sorted(
    p.relative_to(ROOT).as_posix()
    for p in [*ROOT.glob("*.md"), ROOT / "data/README.md", ROOT / "tools/README.md", *(ROOT / "docs").rglob("*.md")]
)
BLOCK = re.compile(r"^```python(?: title=\"(?P<title>[^\"]+)\")?\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder; what a page registers or imports from it is forgotten afterwards."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = set(sys.modules)
    registered = {registry: set(registry.module_dict) for registry in ALL}
    yield tmp_path
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]
    for registry, known in registered.items():
        for name in set(registry.module_dict) - known:
            if not registry.module_dict[name].__module__.startswith("pcperc."):  # which stays imported
                del registry.module_dict[name]
    importlib.invalidate_caches()


@pytest.mark.parametrize("page", PAGES)
def test_code_of_the_page_runs(page, folder):
    text = (ROOT / page).read_text()
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) == text.count("```python") > 0
    names = {"__name__": "page"}
    for block in blocks:
        line = text[: block.start("code")].count("\n")
        if block["title"]:
            (folder / block["title"]).write_text(block["code"])
        else:  # empty lines in front, so that a traceback shows the line of the page
            exec(compile("\n" * line + block["code"], str(ROOT / page), "exec"), names)


def test_a_bad_event_is_found_before_training(folder):
    """By the page's own check, whichever event it is."""
    making, checking = [block["code"] for block in BLOCK.finditer((ROOT / "docs/own_events.md").read_text())][:2]
    names = {}
    exec(making, names)
    exec(checking, names)
    last = folder / "data/my_events/train/event_003.npz"
    arrays = dict(np.load(last))
    arrays["hits"][5, 0] = np.nan
    np.savez(last, **arrays)
    with pytest.raises(ValueError, match="event_003.npz: hits must be finite"):
        exec(checking, names)


@pytest.mark.parametrize("page", PAGES)
def test_names_of_the_page_exist(page):
    for name in sorted(set(NAME.findall((ROOT / page).read_text()))):
        module, *attributes = name.replace("spnn.", "pcperc.nn.").split(".")
        found = importlib.import_module(module)
        for attribute in attributes:
            if not hasattr(found, attribute):
                importlib.import_module(f"{found.__name__}.{attribute}")
            found = getattr(found, attribute)


def prose(path):
    """The text of a page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(path):
    """What a link can name behind '#': the headings in lower case, with '-' for spaces and without punctuation."""
    headings = re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", ALL_PAGES)
def test_links_lead_to_files_and_headings(page):
    missing = []
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#]*)#?([^)]*)\)", prose(ROOT / page)):
        path = (ROOT / page).parent / target if target else ROOT / page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            missing.append(f"{target}#{anchor}")
    assert not missing


@pytest.mark.parametrize("page", ALL_PAGES)
def test_pages_that_are_named_are_there(page):
    names = re.findall(r"\b(?:docs|tools|data|configs)/[\w/]+\.md\b", (ROOT / page).read_text())
    missing = [name for name in names if not (ROOT / name).exists()]
    assert not missing


def test_every_page_of_figures_is_linked():
    text = (ROOT / "docs/benchmarks.md").read_text()
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs/benchmarks").glob("*.md")]
    assert pages
    assert [page for page in pages if f"({page})" not in text] == []


def test_make_help_names_every_target():
    text = (ROOT / "Makefile").read_text()
    targets = set(re.search(r"^\.PHONY: (.*)$", text, re.M)[1].split()) - {"help"}
    assert targets == set(re.findall(r"\bmake ([a-z-]+)", "\n".join(re.findall(r"^\t@echo (.*)$", text, re.M))))
