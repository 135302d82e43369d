"""launch.py: its options, what it installs and how, and that a second start does none of it.

Installations here are real (a virtual environment, pip), of a small package made on the spot, in an empty
folder and without a network.
"""

import ast
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

import launch

ROOT = Path(launch.__file__).parent
AUTH = ["--auth", "ann:secret words"]


# ---------------------------------------------------------------------------------------------------- options


def test_help_needs_no_package_and_is_there_within_a_second() -> None:
    began = time.perf_counter()
    command = [sys.executable, "-S", "-E", "-I", str(ROOT / "launch.py"), "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert time.perf_counter() - began < 1
    options = "port listen no-browser data models device dtype offline share auth safety-checker allowed-host"
    assert [name for name in options.split() if f"--{name}" not in text] == []
    assert "launch.py test" in text


def test_help_of_the_tests_installs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert launch.main(["test", "--help"]) == 0
    assert "ruff" in capsys.readouterr().out


def test_defaults() -> None:
    options = launch.parse_options([])
    assert (options.host, options.port) == ("127.0.0.1", 7860)
    assert (options.data, options.models) == (ROOT / "data", [ROOT / "models"])
    assert (options.device, options.dtype) == ("auto", "auto")
    assert not (options.listen or options.share or options.offline or options.no_browser)
    assert (options.auth, options.allowed_host) == (None, [])


def test_options_survive_the_way_to_the_program(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b b").mkdir()
    words = ["--port", "80", "--listen", "--auth", "-x:a:b c d e", "--data", str(tmp_path / "new")]
    words[3:5] = ["--auth=-x:a:b c d e"]
    words += ["--models", str(tmp_path / "a"), "--models", str(tmp_path / "b b"), "--device", "cuda:1"]
    words += ["--dtype", "bfloat16", "--allowed-host", "One.example", "--allowed-host", "*.two.example"]
    words += ["--no-browser", "--share", "--queue-limit", "7", "--safety-checker", str(tmp_path / "a")]
    options = launch.parse_options(words)
    assert options.auth == ("-x", "a:b c d e")
    assert (options.host, options.queue_limit) == ("0.0.0.0", 7)
    assert options.allowed_host == ["one.example", "*.two.example"]
    told = launch.command_line(options)
    assert not [word for word in told if "a:b" in word], "everybody may read a command line"
    environment = {launch.AUTH_VARIABLE: "-x:a:b c d e"}
    assert launch.parse_options(told, environment) == options
    assert launch.parse_options(launch.command_line(launch.parse_options([]))) == launch.parse_options([])


def test_folders_are_meant_from_where_the_person_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert launch.parse_options(["--data", "mine"]).data == tmp_path / "mine"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--port", "0"], "--port: a port is a whole number from 1 to 65535, not '0'."),
        (["--port", "65536"], "from 1 to 65535"),
        (["--port", "eighty"], "from 1 to 65535"),
        (["--port", "²"], "from 1 to 65535"),
        (["--device", "tpu"], "choose auto, cpu, cuda, cuda:N"),
        (["--device", "cuda:x"], "choose auto, cpu, cuda, cuda:N"),
        (["--queue-limit", "0"], "a limit is a whole number from 1 to 10000, not '0'."),
        (["--dtype", "int8"], "choose auto, float32, float16 or bfloat16"),
        (["--auth", "ann"], "user:password"),
        (["--auth", "ann:"], "user:password"),
        (["--listen"], "--listen lets other people use this machine, so it needs a password"),
        (["--share"], "--share lets other people use this machine, so it needs a password"),
        (["--listen", "--auth", "ann:seven77"], "choose one of at least 8 characters"),
        (["--share", "--auth", "ann:seven77"], "choose one of at least 8 characters"),
        (["--safety-checker", "/there/is/no/such"], "the folder of a safety checker"),
        (["--share", "--offline", *AUTH], "leave one of them out"),
        (["--allowed-host", "http://darkroom"], "without http://"),
        (["--allowed-host", "*"], "is no host name"),
        (["--models", "/there/is/no/such"], "there is no folder"),
        (["--data", __file__], "is a file"),
        (["--prot", "1"], "--prot"),
        (["tset"], "tset"),
    ],
)
def test_wrong_options_get_a_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        launch.parse_options(words)
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert sentence in said
    assert "Traceback" not in said
    assert len(said.splitlines()) <= 2


# ----------------------------------------------------------------------------------------------------- Python


def test_pythons_that_fit_and_that_do_not() -> None:
    assert [launch.python_problem((3, minor, 1)) for minor in (11, 12, 13)] == [None] * 3
    for version in ((3, 10, 13), (3, 14, 0), (2, 7, 18)):
        sentence = launch.python_problem(version)
        assert sentence is not None
        assert "3.11 to 3.13" in sentence
        assert "{}.{}:".format(*version[:2]) in sentence


def test_launch_parses_on_pythons_that_are_too_old() -> None:
    ast.parse((ROOT / "launch.py").read_text("utf-8"), feature_version=(3, 8))


def _pythons_of_other_versions() -> list[str]:
    """Pythons found on this machine that launch.py has to refuse."""
    found = [shutil.which(f"python3.{minor}") for minor in (8, 9, 10, 14)]
    found += [str(path) for path in Path.home().glob(".pyenv/versions/3.[89]*/bin/python")]
    found += [str(path) for path in Path.home().glob(".pyenv/versions/3.10*/bin/python")]
    probe = "import sys; sys.exit((3, 8) <= sys.version_info[:2] < (3, 11) or sys.version_info >= (3, 14))"
    return [path for path in found if path and subprocess.call([path, "-c", probe]) == 1]


def test_an_unfit_python_is_told_so_and_still_helps() -> None:
    pythons = _pythons_of_other_versions()
    if not pythons:
        pytest.skip("this machine has no Python outside 3.11 to 3.13")
    for python in (pythons[0], pythons[-1]):
        refused = subprocess.run([python, str(ROOT / "launch.py")], capture_output=True, text=True)
        assert refused.returncode == 1
        assert "3.11 to 3.13" in refused.stderr
        assert "launch.py" in refused.stderr
        assert "Traceback" not in refused.stderr
        helped = subprocess.run([python, str(ROOT / "launch.py"), "--help"], capture_output=True, text=True)
        assert (helped.returncode, helped.stderr) == (0, "")


# ------------------------------------------------------------------------------------------------------ torch


@pytest.mark.parametrize(
    ("platform", "machine", "nvidia", "reachable", "name", "source"),
    [
        ("linux", "x86_64", False, True, "cpu", "https://download.pytorch.org/whl/cpu"),
        ("linux", "x86_64", False, False, "cuda", None),
        ("linux", "x86_64", True, True, "cuda", None),
        ("linux", "aarch64", True, False, "cuda", None),
        ("win32", "AMD64", True, True, "cuda", "https://download.pytorch.org/whl/cu130"),
        ("win32", "AMD64", True, False, "cpu", None),
        ("win32", "AMD64", False, True, "cpu", None),
        ("darwin", "arm64", False, True, "apple", None),
    ],
)
def test_choice_of_torch(
    platform: str, machine: str, nvidia: bool, reachable: bool, name: str, source: str | None
) -> None:
    build = launch.choose_torch(platform, machine, nvidia, lambda index: reachable)
    assert (build.name, build.source) == (name, source)
    assert build.reason


def test_intel_macs_are_told() -> None:
    with pytest.raises(launch.Trouble, match="Intel"):
        launch.choose_torch("darwin", "x86_64", False, lambda index: True)


def test_an_index_that_does_not_answer_is_not_waited_for() -> None:
    began = time.perf_counter()
    # Nothing listens on the port; an address that swallows everything takes the time limit instead.
    assert not launch.index_offers("http://127.0.0.1:9/whl/cpu", ["torch==2.14.1"])
    assert time.perf_counter() - began < 3


def test_an_index_is_asked_for_exactly_the_pinned_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    tag = "cp{}{}".format(*sys.version_info[:2])
    for name, version in (("torch", "2.14.1"), ("torchvision", "0.29.2")):
        (tmp_path / name).mkdir()
        wheel = f"{name}-{version}%2Bcpu-{tag}-{tag}-manylinux_2_28_x86_64.whl"
        (tmp_path / name / "index.html").write_text(f'<a href="/whl/cpu/{wheel}#sha256=0">{wheel}</a>')
    real = __import__("urllib.request", fromlist=["urlopen"]).urlopen
    monkeypatch.setattr("urllib.request.urlopen", lambda url, timeout: real(url + "index.html"))
    index = tmp_path.as_uri()
    assert launch.index_offers(index, ["torch==2.14.1", "torchvision==0.29.2"])
    assert not launch.index_offers(index, ["torch==2.14.2", "torchvision==0.29.2"])
    assert not launch.index_offers(index, ["torch==2.14.1", "torchaudio==2.14.1"])


@pytest.mark.parametrize(
    ("asked", "build", "platform", "nvidia", "word"),
    [
        ("auto", "cuda", "linux", True, "NVIDIA"),
        ("auto", "cuda", "linux", False, "processor"),
        ("auto", "cpu", "win32", True, "processor"),
        ("auto", "apple", "darwin", False, "Apple"),
        ("cuda:1", "cuda", "linux", True, "cuda:1"),
    ],
)
def test_the_device_is_told(asked: str, build: str, platform: str, nvidia: bool, word: str) -> None:
    assert word in launch.device_sentence(asked, build, platform, nvidia)


# ------------------------------------------------------------------------------------------------------- pins


def _requirements(name: str) -> list[Requirement]:
    return [Requirement(pin) for pin in launch.read_pins(ROOT / name)]


@pytest.mark.parametrize("name", ["requirements.txt", "tests/requirements.txt"])
def test_every_line_is_one_exact_version_from_the_usual_index(name: str) -> None:
    for requirement in _requirements(name):
        assert requirement.url is None, requirement
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", requirement
        assert not specifier.version.endswith("*"), requirement
    text = (ROOT / name).read_text("utf-8")
    assert "://" not in text
    assert not any(line.startswith("-") for line in text.splitlines())


def test_the_two_lists_do_not_contradict_each_other() -> None:
    names = [requirement.name for requirement in _requirements("requirements.txt")]
    names += [requirement.name for requirement in _requirements("tests/requirements.txt")]
    assert len(names) == len(set(names))


def test_the_pins_are_complete_and_what_is_installed() -> None:
    """Nothing is resolved at installation, so whatever an installed package asks for has to be pinned."""
    if not launch.Environment(Path(sys.prefix).parent).stamp.exists():
        pytest.skip("this environment was not made by launch.py")
    asked = [*_requirements("requirements.txt"), *_requirements("tests/requirements.txt")]
    pinned = {requirement.name: requirement for requirement in asked}
    cpu_build = "+cpu" in importlib.metadata.version("torch")
    for name, requirement in pinned.items():
        if requirement.marker and not requirement.marker.evaluate():
            continue
        if cpu_build and name.startswith(launch.CUDA_PACKAGES):
            continue
        installed = importlib.metadata.distribution(name)
        assert requirement.specifier.contains(installed.version), f"{requirement} but {installed.version}"
        for line in installed.requires or []:
            needed = Requirement(line)
            if needed.marker and not needed.marker.evaluate({**default_environment(), "extra": ""}):
                continue
            version = importlib.metadata.version(needed.name)
            assert needed.specifier.contains(version, prereleases=True), f"{name}: {needed}, but {version}"
            canonical = needed.name.lower().replace("_", "-").replace(".", "-")
            assert canonical in pinned, f"{name} needs {needed.name}, which no line pins"


# ----------------------------------------------------------------------------------------------- installation


def test_a_fingerprint_changes_with_what_matters_and_not_with_line_ends(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.txt"
    lock.write_bytes(b"a==1\nb==2\n")
    print_ = launch.fingerprint([lock], (3, 11, 7), "linux")
    assert launch.fingerprint([lock], (3, 11, 9), "linux") == print_
    assert launch.fingerprint([lock], (3, 12, 7), "linux") != print_
    assert launch.fingerprint([lock], (3, 11, 7), "win32") != print_
    lock.write_bytes(b"a==1\r\nb==2\r\n")
    assert launch.fingerprint([lock], (3, 11, 7), "linux") == print_
    lock.write_bytes(b"a==1\nb==3\n")
    assert launch.fingerprint([lock], (3, 11, 7), "linux") != print_


def test_ready_only_with_the_whole_stamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "requirements.txt").write_text("a==1\n")
    environment = launch.Environment(tmp_path)
    assert not environment.ready("run")
    environment.python.parent.mkdir(parents=True)
    environment.python.write_text("")
    stamp = {"build": "cpu", "nvidia": False, "run": environment.fingerprint("run")}
    monkeypatch.setattr(launch, "nvidia_present", lambda: False)
    environment.note(stamp)
    assert environment.ready("run")
    monkeypatch.setattr(launch, "nvidia_present", lambda: True)
    assert not environment.ready("run"), "a card that came later deserves its build of torch"
    environment.note({**stamp, "build": "cuda"})
    assert environment.ready("run")
    environment.stamp.write_text(environment.stamp.read_text()[:-3])
    assert not environment.ready("run"), "half a stamp is none"
    environment.note({**stamp, "build": "cuda"})
    environment.python.unlink()
    assert not environment.ready("run")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("Collecting torch==2.14.1", "looking at torch"),
        ("Processing /some/where/nvidia_cublas-13.1-py3-none-linux.whl (from x)", "looking at nvidia_cublas"),
        ("Processing ./hf-xet-1.8.0-py3-none-any.whl", "looking at hf-xet"),
        ("Requirement already satisfied: anyio in ./x (4.1)", "looking at anyio"),
        ("  Downloading torch-2.14.1-cp311-cp311-linux_x86_64.whl (530.1 MB)", "fetching torch (530.1 MB)"),
        ("Downloading torch (505.4MiB)", "fetching torch (505.4MiB)"),
        ("Installing collected packages: a, b", "unpacking"),
        ("Resolved 90 packages in 2ms", "working out what is missing"),
        ("Using cached x.whl", None),
    ],
)
def test_what_an_installer_says_is_told_in_few_words(line: str, told: str | None) -> None:
    assert launch.doing(line) == told


def _wheel(folder: Path, name: str) -> None:
    """A package `name` 1.0 with one module of one line."""
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": f"word = '{name}'\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},,{len(text)}\n" for file, text in files.items()) + f"{info}/RECORD,,\n"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        for file, text in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(file, text)


class Project:
    """An empty folder with launch.py, two pinned packages and a program that says what it was given."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # Beside it, since pip splits this setting at blanks.
        self.wheels = root.parent / "wheels"
        self.wheels.mkdir()
        root.mkdir()
        shutil.copy(ROOT / "launch.py", root)
        (root / "requirements.txt").write_text("tiny==1.0  # direct\n\n# needed\nsmall==1.0\n")
        (root / "ui").mkdir()
        (root / "ui" / "__init__.py").touch()
        program = "import small, sys, tiny\nfrom launch import parse_options\n"
        program += "print('port', parse_options(sys.argv[1:]).port, tiny.word, small.word)\n"
        (root / "ui" / "app.py").write_text(program)
        self.environment = launch.Environment(root)

    def offer(self, *names: str) -> None:
        for name in names:
            _wheel(self.wheels, name)

    def start(self, *words: str, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """`python launch.py` with no network, no configuration of the machine's own and no uv."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
        tools = self.root / "no-tools"
        tools.mkdir(exist_ok=True)
        offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels), "PIP_CONFIG_FILE": os.devnull}
        return subprocess.run(
            [sys.executable, *(python or ("launch.py",)), *words],
            cwd=self.root,
            env={**kept, **offline, "PATH": str(tools)},
            capture_output=True,
            text=True,
        )

    @property
    def packages(self) -> Path:
        return next(self.environment.folder.glob("**/site-packages"))


# Ends the start with 97 as soon as it looks for a network or runs a program, and exec is not one.
WATCHED = """
import os, runpy, sys
def refuse(event, details):
    if event.startswith("socket.") or event in ("subprocess.Popen", "os.system", "os.posix_spawn"):
        print("did", event, details, file=sys.stderr, flush=True)
        os._exit(97)
sys.addaudithook(refuse)
sys.argv[0] = "launch.py"
runpy.run_path("launch.py", run_name="__main__")
"""


def test_from_an_empty_folder_to_the_running_program_and_again(tmp_path: Path) -> None:
    """The whole story in one environment, since making one takes seconds."""
    project = Project(tmp_path / "a folder with blanks")
    refused = project.start("--offline")
    assert refused.returncode == 1
    assert "start once without --offline" in refused.stderr
    assert not project.environment.folder.exists()

    # What is pinned is not to be had: the tail of pip's words and what to do, no traceback, nothing stamped.
    project.offer("tiny")
    failed = project.start()
    assert failed.returncode == 1
    assert "small==1.0" in failed.stderr
    assert "give the same command again" in failed.stderr
    assert "Traceback" not in failed.stderr + failed.stdout
    assert not project.environment.ready("run")

    # The same command again goes on: it completes what is missing and mends what was cut off in the middle.
    project.offer("small")
    first = project.start("--port", "8123")
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[-1] == "port 8123 tiny small"
    assert "Installing 2 packages with pip: done" in first.stdout
    assert "Making the environment" not in first.stdout, "the environment of the failed start is used on"

    # A second start: no pip, no network, no other program but its own, and a fraction of a second.
    began = time.perf_counter()
    second = project.start("--port", "8124", python=("-c", WATCHED))
    spent = time.perf_counter() - began
    assert (second.returncode, second.stderr) == (0, "")
    assert [line.split()[0] for line in second.stdout.splitlines()] == ["Darkroom", "port"]
    assert spent < 2, "two starts of Python on a busy machine"

    # Killed in the middle: the module is cut short, its metadata already there, the stamp not yet written.
    (project.packages / "tiny.py").write_text("wor")
    project.environment.note({"build": "none"})
    mended = project.start()
    assert mended.returncode == 0, mended.stderr
    assert "interrupted in tiny" in mended.stdout
    assert mended.stdout.splitlines()[-1] == "port 7860 tiny small"

    # Other pins: only then is anything installed again.
    lock = project.root / "requirements.txt"
    lock.write_text(lock.read_text() + "late==1.0\n")
    project.offer("late")
    assert "Installing 3 packages" in project.start().stdout
    assert (project.packages / "late.py").exists()
    assert set(json.loads(project.environment.stamp.read_text())) >= {"run", "build", "python"}
