"""What the documentation says is run, parsed and compared with the code: a page that went stale fails here.

```python                    executed, page by page, in order, in one process and an empty folder
```python title="name.py"    a file that the page asks the reader to write; the later blocks may import it
```yaml                      a recipe, or a list of stages: must be valid
```console                   every `$ secateur`, `$ torchrun ... -m secateur` and `$ make` line must be possible
"""

import ast
import importlib.util
import json
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args, get_origin

import pytest
import typer
import yaml
from pydantic.fields import FieldInfo

from secateur.cli import app
from secateur.recipe import Recipe, parse_recipe, schema
from secateur.recipe.schema import Section

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCE = REPOSITORY / "src" / "secateur"
DOCS = sorted((REPOSITORY / "docs").glob("*.md"))
# Pages for people: what they link to must exist, and their commands must work.
PAGES = [*DOCS, REPOSITORY / "CONTRIBUTING.md", REPOSITORY / "README.md"]

FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Prepended to the blocks of a page: they run as one program whose tracebacks name page and line.
RUNNER = """
import json, os, sys
sys.path.insert(0, os.getcwd())
page, blocks = json.load(sys.stdin)
for line, code in blocks:
    exec(compile("\\n" * line + code, page, "exec"), globals())
"""


def name_of(value: Any) -> str:
    return value.name if isinstance(value, Path) else str(value)


def blocks_of(page: Path, language: str) -> list[tuple[int, str, str]]:
    """(line of its fence, what follows the language, code) of every block."""
    text = page.read_text(encoding="utf-8")
    return [
        (text[: match.start()].count("\n") + 1, match[2].strip(), match[3])
        for match in FENCE.finditer(text)
        if match[1] == language
    ]


def prose_of(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def titled(option: str) -> str | None:
    found = re.search(r'title="([\w.]+)"', option)
    return found[1] if found else None


def tables_of(text: str) -> list[list[list[str]]]:
    """Every Markdown table as rows of cells, without its header."""
    tables: list[list[list[str]]] = []
    for block in re.findall(r"(?:^\|[^\n]*\|\n)+", text + "\n", re.MULTILINE):
        rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block.splitlines()]
        tables.append([row for row in rows[1:] if not all(set(cell) <= set(":- ") for cell in row)])
    return tables


def code_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---------------------------------------------------------------------------------------------------- code blocks


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in DOCS if blocks_of(page, "python")], ids=name_of)
def test_python_of_a_page_runs(page, tmp_path):
    blocks = blocks_of(page, "python")
    for _, option, code in blocks:
        if name := titled(option):
            (tmp_path / name).write_text(code, encoding="utf-8")
    program = [(line, code) for line, option, code in blocks if not titled(option)]
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps([page.name, program]),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def test_the_runner_notices_a_block_that_fails(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", RUNNER], input=json.dumps(["page.md", [(7, "x = 1"), (11, "assert x == 2")]]),
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode != 0
    assert 'File "page.md", line 12' in done.stderr


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page, "yaml")], ids=name_of)
def test_yaml_is_a_recipe(page):
    for line, _, text in blocks_of(page, "yaml"):
        if isinstance(yaml.safe_load(text), list):
            text = "model: {name: any}\nstages:\n" + textwrap.indent(text, "  ")
        assert parse_recipe(text, source=f"{page.name}, block at line {line}").stages


def commands_of(page: Path) -> list[tuple[int, list[str]]]:
    """(line of the block, words) of every command that a console block shows after a dollar sign."""
    return [
        (line, shlex.split(command, comments=True))
        for line, _, text in blocks_of(page, "console")
        for command in re.findall(r"^\$ (.*)$", text.replace("\\\n", " "), re.MULTILINE)
    ]


def fault_of(arguments: list[str]) -> str | None:
    """What the real command line says against the arguments; nothing is run."""
    verb, *rest = arguments
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    if verb not in ("--version", "--help", *commands):
        return f"no such command: {verb}"
    try:
        if verb in commands:
            commands[verb].make_context(verb, rest)
    except Exception as error:  # typer brings its own copy of click, or uses the installed one
        # --help ends the program, which is what it is for.
        return None if type(error).__name__ == "Exit" else f"{error} {getattr(error, 'param', '')}"
    return None


@pytest.mark.parametrize("page", [page for page in PAGES if commands_of(page)], ids=name_of)
def test_commands_are_possible(page):
    targets = re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    for line, words in commands_of(page):
        where = f"{page.name}, block at line {line}: {shlex.join(words)}"
        if words[0] == "make":
            assert set(words[1:]) <= set(targets), where
        if "secateur" in words[:1] or words[:1] == ["torchrun"]:
            fault = fault_of(words[words.index("secateur") + 1 :])
            assert fault is None, f"{where}\n{fault}"


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["compress", "--sparisty", "0.5"], "No such option"),
        (["compres"], "no such command"),
        (["bench", "--threads", "1"], "target"),
        (["compress", "net", "--epochs", "many"], "valid int"),
        (["census", "net", "more"], "unexpected extra argument"),
    ],
)
def test_an_impossible_command_is_noticed(arguments, fault):
    assert fault in (fault_of(arguments) or "")


# ---------------------------------------------------------------------------------------------------------- links


def anchors_of(page: Path) -> set[str]:
    """Anchors of the headings, as the site and GitHub make them."""
    heads = re.findall(r"^#+ (.*)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", head.lower()).strip()) for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = page if not file else (page.parent / file).resolve()
        assert there.exists(), f"{page.name}: {target}"
        if anchor and there.suffix == ".md":
            assert anchor in anchors_of(there), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_of_the_repository_that_are_named_exist(page):
    for words in code_in(prose_of(page)):
        if re.fullmatch(r"(src|tests|docs|examples|benchmarks)/[\w./-]+", words):
            assert (REPOSITORY / words).exists(), f"{page.name}: {words}"


def test_every_page_is_in_the_table_of_contents():
    site = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text())
    assert sorted(next(iter(entry.values())) for entry in site["nav"]) == [page.name for page in DOCS]


# -------------------------------------------------------------------------------------------------------- recipes


def recipe_tables() -> dict[str, list[list[str]]]:
    """Class of the schema -> rows of the table that follows its marker."""
    text = (REPOSITORY / "docs" / "recipes.md").read_text(encoding="utf-8")
    parts = re.split(r"<!-- schema: (\w+) -->", text)[1:]
    return {name: tables_of(part)[0] for name, part in zip(parts[::2], parts[1::2], strict=True)}


def sections() -> dict[str, type[Section]]:
    found = [value for value in vars(schema).values() if isinstance(value, type) and issubclass(value, Section)]
    return {section.__name__: section for section in found if section is not Section}


def own_fields(section: type[Section]) -> dict[str, FieldInfo]:
    """The keys that a section does not simply have from another one, whose table shows them."""
    others = [base for base in section.__bases__ if issubclass(base, Section)]
    known = {key: repr(field) for base in others for key, field in base.model_fields.items()}
    return {key: field for key, field in section.model_fields.items() if repr(field) != known.get(key)}


def shown(field: FieldInfo) -> str:
    """A default as the tables write it."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)  # type: ignore[call-arg]
    if isinstance(value, Section):
        tag = getattr(value, "kind", None)
        return f"`{{kind: {tag}}}`" if tag else "`{}`"
    if value is None:
        return "none"
    if value == "":
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{list(value)}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def choices(annotation: Any) -> list[str]:
    """The words of every Literal inside an annotation."""
    if get_origin(annotation) is Literal:
        return [str(word) for word in get_args(annotation)]
    return [word for inner in get_args(annotation) for word in choices(inner)]


def test_every_section_of_the_schema_has_a_table():
    assert set(recipe_tables()) == set(sections())


@pytest.mark.parametrize("name", sorted(sections()))
def test_keys_and_defaults_of_a_section(name):
    fields = own_fields(sections()[name])
    written = [(code_in(row[0])[0], row[1]) for row in recipe_tables()[name]]
    assert written == [(key, shown(field)) for key, field in fields.items()]


@pytest.mark.parametrize("name", sorted(sections()))
def test_choices_of_a_key_are_named(name):
    rows = {code_in(row[0])[0]: row[2] for row in recipe_tables()[name]}
    for key, field in own_fields(sections()[name]).items():
        words = choices(field.annotation)
        if len(words) > 1:
            assert set(words) <= set(code_in(rows[key])), key


def test_names_in_registries_are_all_in_the_table():
    from secateur.sparsity import allocations, criteria, schedules

    rows = {code_in(row[0])[0]: code_in(row[2]) for row in recipe_tables()["SparsifyPart"]}
    assert set(criteria) <= set(rows["criterion"])
    assert set(allocations) <= set(rows["allocation"])
    assert set(schedules) <= set(rows["schedule"])


def test_keys_are_found_in_a_recipe():
    """The table of the recipe itself names the parts of the smallest one."""
    smallest = Recipe.model_validate({"model": {"name": "any"}, "stages": [{"stage": "evaluate"}]})
    assert [code_in(row[0])[0] for row in recipe_tables()["Recipe"]] == list(smallest.model_dump())


# --------------------------------------------------------------------------------------------------- architecture


def architecture() -> str:
    return (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_floors_are_those_that_imports_are_checked_against():
    checked = loaded(REPOSITORY / "tests" / "test_architecture.py")
    written = {room: row[0] for row in tables_of(architecture())[0] for room in code_in(row[1] + row[2])}
    ground = {room for room, floor in written.items() if floor == "ground"}
    assert {room: int(floor) for room, floor in written.items() if floor != "ground"} == checked.FLOORS
    assert ground == checked.GROUND


def test_rooms_that_exist_are_told_from_those_to_come():
    for _, here, later in tables_of(architecture())[0]:
        assert all((SOURCE / room).is_dir() or (SOURCE / f"{room}.py").is_file() for room in code_in(here)), here
        assert not any((SOURCE / room).exists() or (SOURCE / f"{room}.py").exists() for room in code_in(later)), later


# One file each, added without touching anything else: the page names their folder.
EXTENSIONS = (
    "sparsity/allocators",
    "sparsity/patterns",
    "sparsity/scores",
    "sparsity/formats",
    "zoo/datasets",
    "zoo/cifar",
    "pipeline/stages",
    "quantization/observers",
    "quantization/training/weight_rules",
    "quantization/training/activation_rules",
)


def test_every_file_has_its_line():
    rows = {word for table in tables_of(architecture())[1:] for row in table for word in code_in(row[0])}
    files = {path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py") if not path.name.startswith("__")}
    single = {file for file in files if not file.startswith(EXTENSIONS) and not file.endswith("_runtime.py")}
    named = {word for word in rows if word.endswith(".py")}
    assert single - named == set()
    assert named - files == set()
    assert {f"{folder}/" for folder in EXTENSIONS} <= rows


# ------------------------------------------------------------------------------------------------------- features

STATES = ("done", "partly", "not yet")


def features() -> list[list[str]]:
    text = (REPOSITORY / "docs" / "features.md").read_text(encoding="utf-8")
    return [row for table in tables_of(text) for row in table if re.fullmatch(r"[A-Z]\d\d", row[0])]


def test_every_feature_has_one_row_and_a_state():
    ids = [row[0] for row in features()]
    assert len(ids) == len(set(ids)) == 197
    assert {row[2] for row in features()} == set(STATES)


def test_a_feature_that_is_done_has_a_module_and_a_test():
    for name, _, state, where, tests in features():
        modules, checks = code_in(where), code_in(tests)
        if state == "not yet":
            assert not modules and not checks, name
            continue
        assert modules and checks, name
        assert all((SOURCE / module).exists() for module in modules if module.endswith((".py", "/"))), name
        for check in checks:
            tree = ast.parse((REPOSITORY / "tests" / check).read_text())
            assert any(isinstance(node, ast.FunctionDef) and node.name.startswith("test_") for node in tree.body), check


# ------------------------------------------------------------------------------------------------------- the site


@pytest.mark.slow
def test_the_site_is_built_and_asks_nothing_of_the_network(tmp_path):
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    loads = re.compile(r"<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=[\"']?((?:https?:)?//[^\"'\s>]+)")
    fetches = re.compile(r"(?:@import|url\()\s*[\"']?((?:https?:)?//[^\"')]+)")
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) >= len(DOCS)
    for file in pages:
        assert loads.findall(file.read_text(encoding="utf-8")) == [], file.name
    for file in (tmp_path / "site").rglob("*.css"):
        assert fetches.findall(file.read_text(encoding="utf-8")) == [], file.name
