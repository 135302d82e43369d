"""The house's layers, read off the syntax trees: launch -> ui -> pipelines -> diffusers, torch.

What is checked here is what a reader may rely on: the page never loads an engine, the engine knows no page,
the pure modules are pure, errors are not swallowed, nobody waits by sleeping, and no module keeps state.
"""

import ast
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAUNCH = ROOT / "launch.py"
UI = sorted((ROOT / "ui").rglob("*.py"))
PIPELINES = sorted((ROOT / "pipelines").rglob("*.py"))
OURS = [LAUNCH, *UI, *PIPELINES]

# What costs seconds or a graphics card's memory to import, and so belongs to the engine's process.
HEAVY = {
    "accelerate",
    "controlnet_aux",
    "cv2",
    "diffusers",
    "peft",
    "scipy",
    "skimage",
    "spandrel",
    "timm",
    "torch",
    "torchvision",
    "transformers",
}
PURE = {
    "request": set(),
    "events": {"request"},
    "prediction": set(),
    "metadata": {"request", "foreign", "picture_fields", "lora", "lora.adapter_tags"},
    "lora.adapter_tags": {"request"},
    "foreign": set(),
    "picture_fields": {"request"},
    "pictures": {"metadata"},
    "repaint": {"pictures", "request"},
    "resizing": set(),
    "controlnet.poses": set(),
}
MUTABLE_CALLS = {"list", "dict", "set", "bytearray", "defaultdict", "deque", "Counter", "OrderedDict"}
MUTATORS = {"add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove", "update"}


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), filename=str(path))


def _where(path: Path, node: ast.stmt | ast.expr | ast.excepthandler) -> str:
    return f"{_name(path)}:{node.lineno}"


def _imports(path: Path, nodes: Iterator[ast.AST]) -> Iterator[tuple[str, int]]:
    """Full names of the modules imported by these nodes (for `from a import b`: a and a.b), with the line."""
    package = list(path.relative_to(ROOT).parent.parts)
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module, node.lineno
            for alias in node.names:
                yield f"{module}.{alias.name}", node.lineno


def _at_import_time(tree: ast.Module) -> Iterator[ast.AST]:
    """All nodes that run when the module is imported: not the insides of functions or TYPE_CHECKING."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def _id(path: object) -> str | None:
    return _name(path) if isinstance(path, Path) else None


# -------------------------------------------------------------------------------------- who imports whom


def test_there_is_something_to_look_at() -> None:
    assert (ROOT / "ui" / "app.py") in UI, "ui/app.py is missing"
    assert {f"pipelines/{name.replace('.', '/')}.py" for name in PURE} <= {_name(path) for path in PIPELINES}


@pytest.mark.parametrize("path", UI, ids=_id)
def test_the_page_imports_no_engine_library(path: Path) -> None:
    found = [
        f"{_name(path)}:{line} imports {name}"
        for name, line in _imports(path, ast.walk(_tree(path)))
        if name.split(".")[0] in HEAVY
    ]
    assert not found


@pytest.mark.parametrize("path", PIPELINES, ids=_id)
def test_the_engine_knows_no_page(path: Path) -> None:
    found = [
        f"{_name(path)}:{line} imports {name}"
        for name, line in _imports(path, ast.walk(_tree(path)))
        if name.split(".")[0] in {"gradio", "gradio_client", "ui", "launch"}
    ]
    assert not found


def test_launch_needs_nothing_installed() -> None:
    found = [
        f"launch.py:{line} imports {name}"
        for name, line in _imports(LAUNCH, ast.walk(_tree(LAUNCH)))
        if name.split(".")[0] not in {*sys.stdlib_module_names}
    ]
    assert not found


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_import_nothing_of_ours(name: str) -> None:
    path = ROOT / "pipelines" / f"{name.replace('.', '/')}.py"
    assert path.exists(), f"{_name(path)} is missing"
    allowed = {f"pipelines.{other}" for other in PURE[name]}
    found = [
        f"{_name(path)}:{line} imports {module}"
        for module, line in _imports(path, ast.walk(_tree(path)))
        if module.split(".")[0] in {"pipelines", "ui", "launch"}
        and module != "pipelines"
        and not any(module == other or module.startswith(f"{other}.") for other in allowed)
    ]
    assert not found


def _loaded_by(*modules: str) -> set[str]:
    """The top-level modules that a fresh Python has loaded after importing these."""
    program = f"import sys, {', '.join(modules)}\nprint(*sorted({{n.split('.')[0] for n in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=os.environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_the_whole_page_leaves_the_engine_libraries_unloaded() -> None:
    """What a syntax tree cannot see: a pipelines module that the page imports and that imports torch."""
    assert importlib.util.find_spec("ui.app"), "ui/app.py is missing"
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in UI]
    modules = [module.removesuffix(".__init__") for module in modules if not module.endswith("__main__")]
    assert _loaded_by(*modules) & HEAVY == set()


def test_importing_the_engine_package_itself_is_cheap() -> None:
    assert (
        _loaded_by("pipelines", "pipelines.request", "pipelines.events", "pipelines.metadata") & HEAVY
        == set()
    )


# -------------------------------------------------------------------------------------------- habits


@pytest.mark.parametrize("path", OURS, ids=_id)
def test_errors_are_not_swallowed(path: Path) -> None:
    """`except Exception: pass` hides every mistake there will ever be; naming the expected error is fine."""
    found = []
    for node in ast.walk(_tree(path)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = ast.unparse(node.type) if node.type else "BaseException"
        empty = all(
            isinstance(line, ast.Pass | ast.Continue)
            or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
            for line in node.body
        )
        if empty and {"Exception", "BaseException"} & set(caught.strip("()").split(", ")):
            found.append(f"{_where(path, node)} except {caught}")
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
            broad = {ast.unparse(word) for word in node.args} & {"Exception", "BaseException"}
            found += [f"{_where(path, node)} suppress({word})" for word in broad]
    assert not found


@pytest.mark.parametrize("path", OURS, ids=_id)
def test_nobody_waits_by_sleeping(path: Path) -> None:
    """A loop that sleeps wakes for nothing and answers late: queues, events and joins wait for the thing."""
    found = []
    for loop in ast.walk(_tree(path)):
        if not isinstance(loop, ast.While | ast.For | ast.AsyncFor):
            continue
        for node in ast.walk(loop):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "sleep":
                found.append(_where(path, node))
    assert not found


def _is_mutable(value: ast.expr | None) -> bool:
    if isinstance(value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp):
        return True
    return isinstance(value, ast.Call) and ast.unparse(value.func).split(".")[-1] in MUTABLE_CALLS


@pytest.mark.parametrize("path", OURS, ids=_id)
def test_modules_keep_no_state(path: Path) -> None:
    """Tables in capitals are welcome at module level as long as nothing writes into them."""
    tree = _tree(path)
    tables, found = set(), []
    for line in tree.body:
        if not isinstance(line, ast.Assign | ast.AnnAssign) or not _is_mutable(line.value):
            continue
        targets = line.targets if isinstance(line, ast.Assign) else [line.target]
        for name in (target.id for target in targets if isinstance(target, ast.Name)):
            tables.add(name)
            if name != "__all__" and not name.lstrip("_").isupper():
                found.append(f"{_where(path, line)} {name} can be changed by anyone")
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            found.append(f"{_where(path, node)} global {', '.join(node.names)}")
        if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            if ast.unparse(node.value) in tables:
                found.append(f"{_where(path, node)} writes into {ast.unparse(node.value)}")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            table = ast.unparse(node.func.value)
            if node.func.attr in MUTATORS and table in tables:
                found.append(f"{_where(path, node)} changes {table}")
    assert not found


# --------------------------------------------------------------------- the checks catch what they should


@pytest.mark.parametrize(
    ("check", "bad", "good"),
    [
        (
            test_errors_are_not_swallowed,
            "try:\n    x()\nexcept Exception:\n    pass\n",
            "try:\n    x()\nexcept OSError:\n    pass\n",
        ),
        (
            test_errors_are_not_swallowed,
            "with contextlib.suppress(Exception):\n    x()\n",
            "with contextlib.suppress(KeyError):\n    x()\n",
        ),
        (
            test_nobody_waits_by_sleeping,
            "def f():\n    while busy():\n        time.sleep(0.1)\n",
            "def f():\n    time.sleep(0.1)\n",
        ),
        (test_modules_keep_no_state, "cache = {}\n", "CACHE = {1: 2}\n"),
        (
            test_modules_keep_no_state,
            "C = {}\ndef f():\n    C[1] = 2\n",
            "C = {}\ndef f():\n    return C[1]\n",
        ),
        (test_modules_keep_no_state, "S = set()\ndef f():\n    S.add(1)\n", "def f():\n    S = []\n"),
        (test_the_engine_knows_no_page, "def f():\n    import gradio\n", "import torch\n"),
        (test_the_page_imports_no_engine_library, "from torch import nn\n", "import torchless\n"),
        (test_the_page_imports_no_engine_library, "import diffusers.utils as u\n", "import gradio\n"),
    ],
)
def test_the_checks_bite(
    check: object, bad: str, good: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(check)
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / "module.py"
    path.write_text(good)
    check(path)
    path.write_text(bad)
    with pytest.raises(AssertionError):
        check(path)
