"""What people read: README, the site's sources, the citation."""

import importlib
import json
import re
import types
from pathlib import Path

import pytest
import yaml

import zero_jax

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))
ROOMS = ("program", "tasks", "executors", "evaluation", "search", "run", "run.cluster", "report", "use")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def texts(page):
    """The Markdown of a page or of a notebook."""
    if page.suffix == ".md":
        return re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    cells = json.loads(page.read_text())["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def test_readme_is_short_and_its_two_commands_stand_alone():
    readme = (ROOT / "README.md").read_text()
    assert len(readme.split()) <= 900
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    installing = [block.strip() for language, block in blocks if not language and "pip install" in block]
    assert len(installing) == 2
    assert all(command.startswith("python3 -m venv .venv && ") and "\n" not in command for command in installing)
    assert installing[0].endswith("zero-jax search linear")
    assert installing[1].endswith("/pytest")


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_files_resolve(page):
    for link in LINK.findall(texts(page)):
        if not re.match(r"[a-z]+:|#", link):
            assert (page.parent / link.split("#")[0]).exists(), f"{page.name} links to {link}, which does not exist"


def test_figures_and_included_files_exist():
    for page in PAGES:
        for name in re.findall(r"^```\{(?:image|include)\} (\S+)$", page.read_text(), re.MULTILINE):
            assert (page.parent / name).is_file(), f"{page.name} shows {name}, which does not exist"


def test_marks_that_pages_are_cut_at_exist_once():
    architecture = (ROOT / "ARCHITECTURE.md").read_text()
    for page in PAGES:
        for mark in re.findall(r"^:(?:start-after|end-before): (.*)$", page.read_text(), re.MULTILINE):
            assert architecture.count(mark) == 1, f"{page.name} needs {mark} in ARCHITECTURE.md"


def resolved(name):
    """The object of a dotted name."""
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:n]))
        except ModuleNotFoundError:
            continue
        for part in parts[n:]:
            value = getattr(value, part)
        return value
    raise AssertionError(f"no {name}")


def documented():
    """Every object in the API reference, by its identity."""
    text = "\n".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
    objects = {id(resolved(name)) for name in re.findall(r"\.\. auto\w+:: (\S+)", text)}
    for name, members in re.findall(r"\.\. automodule:: (\S+)\n   :members:(.*)", text):
        module = resolved(name)
        listed = [word.strip() for word in members.split(",") if word.strip()]
        public = [n for n, one in vars(module).items() if not n.startswith("_")
                  and getattr(one, "__module__", None) == name]  # fmt: skip
        objects |= {id(getattr(module, n)) for n in listed or public}
    return objects


def exported(room):
    """The public names of a room's `__init__`: what it imports under its own name, and what it defines."""
    text = (ROOT / "zero_jax" / room.replace(".", "/") / "__init__.py").read_text()
    names = {name for name, other in re.findall(r"import (\w+) as (\w+)$", text, re.MULTILINE) if name == other}
    names |= set(re.findall(r"^(?:def|class) ([A-Za-z]\w*)", text, re.MULTILINE))
    module = importlib.import_module(f"zero_jax.{room}")
    values = {f"zero_jax.{room}.{name}": getattr(module, name) for name in names}
    return {name: one for name, one in values.items() if not isinstance(one, types.ModuleType)}


def test_every_public_name_is_in_the_api_reference():
    public = {f"zero_jax.{name}": getattr(zero_jax, name) for name in zero_jax.__all__}
    for room in ROOMS:
        public |= exported(room)
    known = documented()
    missing = sorted(name for name, one in public.items() if id(one) not in known)
    assert not missing, f"add to docs/api: {', '.join(missing)}"


def test_every_tutorial_is_on_the_site_and_without_outputs():
    index = (ROOT / "docs" / "index.md").read_text()
    assert len(NOTEBOOKS) >= 4
    for notebook in NOTEBOOKS:
        assert f"\ntutorials/{notebook.stem}\n" in index
        cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
        assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)


def test_the_citation_names_this_version_and_the_paper():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(cited)
    assert cited["version"] == zero_jax.__version__
    (paper,) = cited["references"]
    assert paper["title"].startswith("AutoML-Zero")
    assert [author["family-names"] for author in paper["authors"]] == ["Real", "Liang", "So", "Le"]


def test_the_changelog_has_a_place_for_what_comes_next():
    heads = re.findall(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heads[0] == "Unreleased"
    assert zero_jax.__version__ in heads


def test_the_skill_says_what_it_is_for():
    head = (ROOT / "SKILL.md").read_text().split("---\n")[1]
    assert set(yaml.safe_load(head)) == {"name", "description"}
