"""Guards of the layout: what keeps the house from growing ugly, checked on the source and in real runs."""

from __future__ import annotations

import ast
import dataclasses
import functools
import os
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from ptycho_torch import config, refine_config, simulate_config
from ptycho_torch.registry import Registry
from ptycho_torch.variants import GENERATORS, LOGGERS, LOSSES, SCHEDULERS

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PRODUCT = sorted(path for name in ("harness", "ptycho_torch") for path in (ROOT / name).rglob("*.py"))
SOURCES = [*PRODUCT, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "benchmarks").rglob("*.py"))]
WORKER = (
    "harness.worker",
    "harness.reconstructing",
    "harness.refining",
    "harness.simulator",
    "harness.worker_inputs",
)
TORCH_FREE = (
    "archives",
    "array_headers",
    "config",
    "config_factory",
    "demand",
    "durable",
    "errors",
    "headers",
    "layers",
    "registry",
    "trace",
    "validation",
    "variants",
)

SOFT_LINES, HARD_LINES, MAX_STATEMENTS = 300, 400, 40
OVER_SOFT: dict[str, int] = {}
"""Files above the soft limit, with the length they may not exceed; the table only shrinks."""

HOMONYMS = {"main": "entry of a process", "merge": "of configuration layers; of patches on a canvas"}
"""Public names that stand in two modules, and what each means there."""


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def functions_of(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def number_of_statements(function: ast.AST) -> int:
    return sum(isinstance(node, ast.stmt) for node in ast.walk(function)) - 1


def body_without_docstring(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.stmt]:
    return function.body[1:] if ast.get_docstring(function) is not None else function.body


def calls_of(path: Path) -> Iterator[str]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call):
            match node.func:
                case ast.Name(id=name):
                    yield name
                case ast.Attribute(attr=name):
                    yield f".{name}"


def run_python(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def is_host_module(name: str) -> bool:
    parts = name.split(".")
    if parts[0] == "harness":
        return name not in WORKER
    return len(parts) == 1 or parts[1] in {*TORCH_FREE, "readers", "refine_config", "simulate_config"}


MODULES = [module_name(path) for path in PRODUCT]
HOST_MODULES = [name for name in MODULES if is_host_module(name)]


def import_names(requirements: list[str]) -> set[str]:
    known = {
        "pillow": {"PIL"},
        "pydantic": {"pydantic", "pydantic_core"},
        "pyyaml": {"yaml"},
        "scikit-image": {"skimage"},
    }
    names = {re.split(r"[<>=!\[ ;]", requirement)[0] for requirement in requirements}
    return set().union(*(known.get(name, {name}) for name in names))


CORE = import_names(PROJECT["project"]["dependencies"])
EXTRAS = {
    extra: import_names(packages)
    for extra, packages in PROJECT["project"]["optional-dependencies"].items()
    if extra != "dev"
}


def test_no_file_is_longer_than_the_hard_limit() -> None:
    lengths = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {name: lines for name, lines in lengths.items() if lines > HARD_LINES} == {}


def test_a_file_above_the_soft_limit_is_listed_and_does_not_grow() -> None:
    lengths = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in PRODUCT}
    long_files = {name: lines for name, lines in lengths.items() if lines > SOFT_LINES}
    assert {name for name in long_files if long_files[name] > OVER_SOFT.get(name, SOFT_LINES)} == set()
    assert set(OVER_SOFT) - set(long_files) == set(), "take out of the table what is short again"


def test_no_function_has_more_than_forty_statements() -> None:
    too_long = {
        f"{relative(path)}:{function.lineno} {function.name}": number_of_statements(function)
        for path in PRODUCT
        for function in functions_of(tree_of(path))
        if number_of_statements(function) > MAX_STATEMENTS
    }
    assert too_long == {}


@pytest.mark.parametrize("call", ["Trainer", ".fit"])
def test_there_is_one_training_loop(call: str) -> None:
    places = [relative(path) for path in PRODUCT for name in calls_of(path) if name == call]
    assert places == ["ptycho_torch/training.py"]


def test_the_host_side_imports_with_the_core_packages_alone() -> None:
    heavy = sorted(set.union(*EXTRAS.values()) - CORE)
    run_python(
        f"""
import importlib, sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {heavy!r}:
            raise AssertionError(f"a host module imports {{name}}")
sys.meta_path.insert(0, Wall())
for name in {HOST_MODULES!r}:
    importlib.import_module(name)
"""
    )


def test_importing_a_module_changes_no_generator_no_folder_and_no_environment() -> None:
    run_python(
        f"""
import hashlib, importlib, logging, os, pickle, random, signal, sys
import lightning, numpy, torch, torchmetrics
def state():
    return {{
        "random": random.getstate(),
        "numpy": hashlib.sha256(pickle.dumps(numpy.random.get_state())).hexdigest(),
        "torch": torch.random.get_rng_state().numpy().tobytes(),
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cwd": os.getcwd(),
        "environ": dict(os.environ),
        "sigterm": signal.getsignal(signal.SIGTERM),
        "root logger": (logging.root.level, tuple(logging.root.handlers)),
    }}
changed = []
for name in {MODULES!r}:
    before = state()
    importlib.import_module(name)
    changed += [f"{{name}} changes {{key}}" for key, value in state().items() if value != before[key]]
assert not changed, changed
"""
    )


def test_no_public_name_is_defined_twice() -> None:
    places = defaultdict(set)
    for path in PRODUCT:
        for node in tree_of(path).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                places[node.name].add(relative(path))
    homonyms = {name: files for name, files in places.items() if len(files) > 1}
    assert {name: files for name, files in homonyms.items() if name not in HOMONYMS} == {}
    assert set(HOMONYMS) - set(homonyms) == set(), "take out of the table what is unique again"


def test_no_module_takes_what_is_private_to_another() -> None:
    taken = [
        f"{relative(path)}:{node.lineno} {node.module}.{name.name}"
        for path in PRODUCT
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0
        for name in node.names
        if name.name.startswith("_") and node.module.partition(".")[0] in {"harness", "ptycho_torch"}
    ]
    assert taken == []


def test_no_function_is_written_twice() -> None:
    places = defaultdict(list)
    for path in PRODUCT:
        for function in functions_of(tree_of(path)):
            body = body_without_docstring(function)
            if sum(number_of_statements(statement) + 1 for statement in body) >= 3:
                key = "\n".join(ast.dump(statement) for statement in body)
                places[key].append(f"{relative(path)}:{function.lineno} {function.name}")
    assert [twins for twins in places.values() if len(twins) > 1] == []


def test_no_name_says_that_it_is_a_copy_or_a_drawer() -> None:
    names = {module_name(path).rpartition(".")[2]: relative(path) for path in PRODUCT}
    for path in PRODUCT:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                names[node.name] = f"{relative(path)}:{node.lineno}"
    copy = re.compile(
        r"(_v\d+|_beta|_old|_new|_copy|_legacy|_tmp)$|^(utils?|helpers?|managers?|misc|common)$"
    )
    assert {place for name, place in names.items() if copy.search(name)} == set()


def configurations() -> list[type]:
    return [
        value
        for module in (config, refine_config, simulate_config)
        for value in vars(module).values()
        if isinstance(value, type) and dataclasses.is_dataclass(value) and value.__module__ == module.__name__
    ]


def test_every_configuration_field_is_read_somewhere() -> None:
    defined_in = {module.__name__ for module in (config, refine_config, simulate_config)}
    read = {
        node.attr
        for path in PRODUCT
        if module_name(path) not in defined_in
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    unread = {
        f"{owner.__name__}.{field.name}"
        for owner in configurations()
        for field in dataclasses.fields(owner)
        if field.name not in read
    }
    assert unread == set()


@pytest.mark.parametrize(
    ("owner", "field", "names"),
    [
        (config.ModelConfig, "generator", GENERATORS),
        (config.TrainingConfig, "loss", LOSSES),
        (config.PyTorchExecutionConfig, "scheduler", SCHEDULERS),
        (config.PyTorchExecutionConfig, "logger_backend", LOGGERS),
    ],
    ids=["generator", "loss", "scheduler", "logger_backend"],
)
def test_the_legal_names_of_a_variant_are_those_of_its_table(
    owner: type, field: str, names: Registry
) -> None:
    schema = TypeAdapter(owner).json_schema()["properties"][field]
    [choice] = [one for one in schema.get("anyOf", [schema]) if one.get("type") == "string"]
    assert choice.get("enum", [choice.get("const")]) == list(names)
    assert all(names[name] is not None for name in names)


def test_every_third_party_import_is_a_declared_dependency() -> None:
    declared = CORE | set.union(*EXTRAS.values()) | {"harness", "ptycho_torch", "lightning_fabric"}
    undeclared = set()
    for path in PRODUCT:
        for node in ast.walk(tree_of(path)):
            match node:
                case ast.Import(names=aliases):
                    imported = [alias.name for alias in aliases]
                case ast.ImportFrom(module=str(module), level=0):
                    imported = [module]
                case _:
                    continue
            tops = {name.partition(".")[0] for name in imported} - declared - set(sys.stdlib_module_names)
            undeclared |= {f"{relative(path)}:{node.lineno} {top}" for top in tops}
    assert undeclared == set()


def test_the_project_file_lists_exactly_the_packages_there_are() -> None:
    packages = {module_name(path) for path in PRODUCT if path.name == "__init__.py"}
    folders = {module_name(path.parent / "__init__.py") for path in PRODUCT}
    assert folders == packages, "a folder with modules has no __init__.py"
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == packages


def test_the_folder_named_like_the_docker_package_holds_no_python() -> None:
    assert list((ROOT / "docker").rglob("*.py")) == []


def text_files() -> Iterator[tuple[str, str]]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\0")
    if listed == [""]:
        pytest.skip("this tree is no git checkout, so nothing says which files are the project's")
    for name in filter(None, listed):
        path = ROOT / name
        if path.is_file() and path != Path(__file__).resolve() and b"\0" not in (data := path.read_bytes()):
            yield name, data.decode("utf-8", errors="replace")


def test_no_tracked_file_names_a_package_index_or_a_path_of_one_machine() -> None:
    # In an image there is one place of ours, and it is the same everywhere.
    host = re.compile(
        r"pythonhosted\.org|pypi\.org/simple|(?<![\w.])/(?:home|Users|root|work|opt)/(?!ptychopinn\b)\w"
    )
    named = {f"{name}: {hit.group()}" for name, text in text_files() for hit in host.finditer(text)}
    assert named == set()


@pytest.mark.parametrize("lock", sorted((ROOT / "docker").glob("*.lock")), ids=lambda path: path.name)
def test_a_lock_holds_pins_and_hashes_only(lock: Path) -> None:
    pin = re.compile(r'[a-z0-9][a-z0-9._-]*==[\w.+]+( ; sys_platform [!=]= "\w+")? \\')
    digest = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")
    lines = lock.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines[1:] if not (pin.fullmatch(line) or digest.fullmatch(line))] == []
    assert "lightning==2.6.2 \\" not in lines
    assert "lightning==2.6.3 \\" not in lines


def pins(lock: str) -> set[str]:
    text = (ROOT / "docker" / f"requirements-{lock}.lock").read_text(encoding="utf-8")
    return set(re.findall(r"^(\S+==\S+)", text, flags=re.MULTILINE))


def test_the_locks_agree_on_every_package_they_share() -> None:
    assert pins("cpu") <= pins("dev")
    assert {pin for pin in pins("cpu") - pins("cuda") if not pin.startswith("torch==")} == set()
    assert not any(pin.startswith("nvidia") for pin in pins("dev"))
    tools, loggers = (dict(pin.split("==") for pin in pins(lock)) for lock in ("dev", "loggers"))
    assert {name for name in loggers.keys() & tools.keys() if loggers[name] != tools[name]} == set()
    assert {"mlflow", "wandb"} <= set(loggers)
    assert "torch" not in loggers
