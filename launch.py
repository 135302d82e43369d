"""Darkroom's front door.

`python launch.py` installs what is pinned into `.venv` beside this file and starts the program;
`python launch.py test` does the same for the tests and runs them. Until the environment stands there is
nothing but the standard library, so this file imports nothing else, and what a second start does not need
is imported inside the functions: a ready environment is on its way within a few milliseconds.

The file parses on Python 3.8 and newer, so that a Python which is too old is told so in a sentence.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

OLDEST, NEWEST = (3, 11), (3, 13)
ROOT = Path(__file__).resolve().parent
TORCH_INDEX = "https://download.pytorch.org/whl/"
TORCH_PACKAGES = ("torch", "torchvision")
# What only torch's CUDA build on Linux needs; 4 GB that its CPU build does without.
CUDA_PACKAGES = ("nvidia-", "cuda-", "triton")
AUTH_VARIABLE = "DARKROOM_AUTH"
"""Name and password for a program whose command line everybody on this machine can read."""
SHORTEST = 8
# Raise this when the way of installing changes so much that environments should be completed anew.
SCHEME = 1


class Trouble(Exception):
    """Something the person at the keyboard can act upon; its text is the sentence to show."""


# ---------------------------------------------------------------------------------------------- options


class Options(argparse.Namespace):
    """What was asked for on the command line, every value checked."""

    port: int
    listen: bool
    no_browser: bool
    data: Path
    models: list[Path]
    device: str
    dtype: str
    no_film: bool
    film_budget: float
    queue_limit: int
    offline: bool
    share: bool
    auth: tuple[str, str] | None
    safety_checker: str | None
    allowed_host: list[str]

    @property
    def host(self) -> str:
        """The address to bind: this machine only, unless --listen was given."""
        return "0.0.0.0" if self.listen else "127.0.0.1"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One sentence instead of the whole usage text."""
        self.exit(2, f"{message.replace('argument ', '', 1)}\n`python launch.py --help` lists all options.\n")


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"a port is a whole number from 1 to 65535, not {text!r}.")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"a limit is a whole number from 1 to 10000, not {text!r}.")
    return int(text)


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no device; choose auto, cpu, cuda, cuda:N (N counts from 0) or mps."
        )
    return text


def _dtype(text: str) -> str:
    if text not in ("auto", "float32", "float16", "bfloat16"):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number format; choose auto, float32, float16 or bfloat16."
        )
    return text


def _auth(text: str) -> tuple[str, str]:
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise argparse.ArgumentTypeError("give a name and a password with a colon between: user:password.")
    return user, password


def _safety_checker(text: str) -> str:
    if text == "on":
        return text
    folder = Path(text).expanduser().resolve()
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"give on, or the folder of a safety checker: {folder} is none.")
    return str(folder)


def _allowed_host(text: str) -> str:
    if not re.fullmatch(r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no host name; give it as in the address bar, without http:// and port "
            "(darkroom.example.org, 192.168.1.20 or *.example.org)."
        )
    return text.lower()


def _models_folder(text: str) -> Path:
    folder = Path(text).expanduser().resolve()
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {folder}.")
    return folder


def _gigabytes(text: str) -> float:
    try:
        size = float(text)
    except ValueError:
        size = -1.0
    if not 0 <= size < 1e6:  # what is no number fails too
        raise argparse.ArgumentTypeError(f"a size is a number of gigabytes, not {text!r}.")
    return size


def _data_folder(text: str) -> Path:
    folder = Path(text).expanduser().resolve()
    if folder.exists() and not folder.is_dir():
        raise argparse.ArgumentTypeError(f"{folder} is a file; a folder is needed.")
    return folder


def _parser() -> _Parser:
    parser = _Parser(
        prog="python launch.py",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=(
            "Start Darkroom. The first start installs what is pinned in requirements.txt into .venv\n"
            "beside this file; every later start goes straight on."
        ),
        epilog=(
            "python launch.py test [pytest arguments]\n"
            "    set up what the tests need and run them; `python launch.py test --help` says more.\n\n"
            "Needs Python 3.11 to 3.13."
        ),
    )
    add = parser.add_argument
    add("--port", type=_port, default=7860, metavar="N", help="port of the page (default: 7860)")
    add("--listen", action="store_true", help="let other machines in; only together with --auth")
    add("--no-browser", action="store_true", help="do not open the browser")
    add(
        "--data",
        type=_data_folder,
        default=ROOT / "data",
        metavar="DIR",
        help="folder of pictures, settings and journal (default: data/ beside this file)",
    )
    add(
        "--models",
        type=_models_folder,
        action="append",
        metavar="DIR",
        help="folder with models; may be given several times, new models are kept in the first "
        "(default: models/ beside this file)",
    )
    add(
        "--device",
        type=_device,
        default="auto",
        metavar="NAME",
        help="auto, cpu, cuda, cuda:N or mps (default: auto)",
    )
    add(
        "--dtype",
        type=_dtype,
        default="auto",
        metavar="NAME",
        help="auto, float32, float16 or bfloat16 (default: auto)",
    )
    add("--no-film", action="store_true", help="keep no film of a run once it has ended")
    add(
        "--film-budget",
        type=_gigabytes,
        default=20.0,
        metavar="GB",
        help="what films may take on disk; the oldest that are not pinned go first (default: 20)",
    )
    add(
        "--queue-limit",
        type=_count,
        default=500,
        metavar="N",
        help="jobs that one visitor may have waiting, all together three times as many (default: 500)",
    )
    add("--offline", action="store_true", help="never ask the network for anything")
    add("--share", action="store_true", help="open a public Gradio link; only together with --auth")
    add(
        "--auth",
        type=_auth,
        metavar="USER:PASSWORD",
        help="ask visitors for this name and password; the environment's DARKROOM_AUTH says it too, and "
        "nobody else on this machine can read it there",
    )
    add(
        "--safety-checker",
        type=_safety_checker,
        metavar="on|DIR",
        help="look at every finished picture with diffusers' safety checker, from the models folder, the "
        "Hugging Face cache or DIR, and keep back what it flags (default: off)",
    )
    add(
        "--allowed-host",
        type=_allowed_host,
        action="append",
        default=[],
        metavar="NAME",
        help="host name under which the page may also be opened (behind a proxy, say); repeatable",
    )
    return parser


def parse_options(argv: Sequence[str], environment: Mapping[str, str] = os.environ) -> Options:
    """Read the program's options; on a wrong one say a sentence and exit with 2."""
    parser = _parser()
    options = parser.parse_args(list(argv), namespace=Options())
    if options.models is None:
        options.models = [ROOT / "models"]
    if options.auth is None and environment.get(AUTH_VARIABLE):
        try:
            options.auth = _auth(environment[AUTH_VARIABLE])
        except argparse.ArgumentTypeError as problem:
            parser.error(f"{AUTH_VARIABLE}: {problem}")
    for asked, flag in ((options.listen, "--listen"), (options.share, "--share")):
        if asked and options.auth is None:
            parser.error(
                f"{flag} lets other people use this machine, so it needs a password: "
                f"add --auth user:password, or leave {flag} out."
            )
        if asked and options.auth is not None and len(options.auth[1]) < SHORTEST:
            parser.error(
                f"With {flag} strangers can try passwords: choose one of at least {SHORTEST} characters."
            )
    if options.share and options.offline:
        parser.error("--share needs the network and --offline forbids it: leave one of them out.")
    return options


def command_line(options: Options) -> list[str]:
    """The same options as arguments, with full paths: the program runs in another folder than the shell. All
    but the password, which goes through the environment."""
    words = ["--port", str(options.port), "--data", str(options.data)]
    words += ["--device", options.device, "--dtype", options.dtype]
    words += ["--film-budget", f"{options.film_budget:g}", "--queue-limit", str(options.queue_limit)]
    if options.models != [ROOT / "models"]:
        for folder in options.models:
            words += ["--models", str(folder)]
    for name in options.allowed_host:
        words += ["--allowed-host", name]
    if options.safety_checker:
        words += ["--safety-checker", options.safety_checker]
    switches = {
        "--listen": options.listen,
        "--no-browser": options.no_browser,
        "--no-film": options.no_film,
        "--offline": options.offline,
        "--share": options.share,
    }
    return words + [flag for flag, given in switches.items() if given]


# ------------------------------------------------------------------------------------- Python and torch


def python_problem(version: tuple[int, ...]) -> str | None:
    """Why this Python cannot run Darkroom, in a sentence; None where it can."""
    if OLDEST <= tuple(version[:2]) <= NEWEST:
        return None
    return (
        "Darkroom needs Python {}.{} to {}.{}, and this is Python {}.{}: the packages it is made of are "
        "built for those versions.".format(*OLDEST, *NEWEST, *version[:2])
    )


def _other_python() -> str | None:
    """A command on this machine that starts a Python of a supported version."""
    import shutil
    import subprocess

    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        names = [["python3.%d" % minor]]
        if os.name == "nt":
            names.append(["py", "-3.%d" % minor])
        for name in names:
            if shutil.which(name[0]):
                try_it = [*name, "-c", ""]
                if not subprocess.call(try_it, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
                    return " ".join(name)
    return None


class TorchBuild(NamedTuple):
    """Which torch to install: its name, the index it comes from (None: the usual one) and why."""

    name: str
    source: str | None
    reason: str


def nvidia_present() -> bool:
    """Whether an NVIDIA driver is loaded, told by its traces alone: asking it costs up to a second."""
    if os.name == "nt":
        import shutil

        return shutil.which("nvidia-smi") is not None
    traces = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/usr/lib/wsl/lib/nvidia-smi")
    return any(os.path.exists(trace) for trace in traces)


def choose_torch(platform: str, machine: str, nvidia: bool, offered: Callable[[str], bool]) -> TorchBuild:
    """The torch build for a platform; `offered` says whether an index has the pinned versions."""
    if platform == "darwin":
        if machine != "arm64":
            raise Trouble(
                "This Mac has an Intel processor, for which PyTorch is no longer made: Darkroom needs a Mac "
                "with an Apple processor, or Linux or Windows."
            )
        return TorchBuild("apple", None, "this is a Mac")
    if platform == "win32":
        if not nvidia:
            return TorchBuild("cpu", None, "no NVIDIA driver was found")
        if offered(TORCH_INDEX + "cu130"):
            return TorchBuild("cuda", TORCH_INDEX + "cu130", "an NVIDIA driver was found")
        return TorchBuild(
            "cpu", None, "an NVIDIA driver was found, but PyTorch's CUDA index cannot be reached"
        )
    if nvidia:
        return TorchBuild("cuda", None, "an NVIDIA driver was found")
    if offered(TORCH_INDEX + "cpu"):
        return TorchBuild("cpu", TORCH_INDEX + "cpu", "no NVIDIA driver was found")
    return TorchBuild(
        "cuda",
        None,
        "no NVIDIA driver was found, but PyTorch's index of CPU builds cannot be reached; this one runs "
        "on the processor too, it is only larger",
    )


def index_offers(index: str, pins: Sequence[str], seconds: float = 12.0) -> bool:
    """Whether an index can be reached and lists these pins for this Python; never waits longer."""
    import platform
    import threading
    import urllib.request

    tag = "cp{}{}".format(*sys.version_info[:2])
    machine = re.escape(platform.machine().lower())
    found: list[bool] = []

    def ask() -> None:
        try:
            for pin in pins:
                name, version = re.escape(pin_name(pin)), re.escape(pin.split(";")[0].split("==")[1].strip())
                with urllib.request.urlopen(f"{index}/{pin_name(pin)}/", timeout=5) as answer:
                    page = answer.read().decode("utf-8", "replace")
                wheel = rf"{name}-{version}(?:%2[Bb]|\+)[^\s\"'<>]*-{tag}-[^\s\"'<>]*{machine}\.whl"
                found.append(re.search(wheel, page) is not None)
        except (OSError, ValueError):
            found.append(False)

    # A thread, because looking up a host name knows no time limit of its own.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    return not asking.is_alive() and len(found) == len(pins) and all(found)


# ------------------------------------------------------------------------------------------- what to install


def read_pins(path: Path) -> list[str]:
    """The `name==version ; marker` lines of a requirements file."""
    lines = (line.split("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    return [line for line in lines if line]


def pin_name(pin: str) -> str:
    """The package that a pin is about."""
    return re.split(r"[\s=;<>!~\[]", pin, maxsplit=1)[0].lower()


def fingerprint(files: Sequence[Path], version: tuple[int, ...], platform: str) -> str:
    """What an installation depends on, as one short text: equal means nothing is to be done."""
    import hashlib

    digest = hashlib.sha256(repr((SCHEME, tuple(version[:2]), platform)).encode())
    for file in files:
        # Line ends differ between checkouts of the same commit on Windows and elsewhere.
        digest.update(b"\0" + file.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()


def mend(site_packages: Path) -> list[str]:
    """Forget packages that an interrupted installation left incomplete, so that they are installed anew.

    An installer takes a package for installed as soon as its metadata folder is there, even when it was
    killed while copying the rest; each package's RECORD says which files it consists of.
    """
    import csv
    import shutil

    forgotten = []
    for info in sorted(site_packages.glob("*.dist-info")):
        if info.name.startswith("pip-"):
            # No pin brings it back; a pip that does not work is noticed before.
            continue
        record = info / "RECORD"
        whole = record.is_file() and (info / "METADATA").is_file()
        if whole:
            with record.open(newline="", encoding="utf-8") as lines:
                for name, _, size in (row for row in csv.reader(lines) if len(row) == 3):
                    file = site_packages / name
                    if name.endswith(".pyc"):
                        continue
                    if not file.is_file() or (size and file.stat().st_size != int(size)):
                        whole = False
                        break
        if not whole:
            shutil.rmtree(info)
            forgotten.append(info.name.split("-")[0])
    return forgotten


class Environment:
    """The `.venv` of a project folder: what is in it, and how it gets there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / ".venv"
        self.stamp = self.folder / "darkroom.json"
        self.log = self.folder / "install.log"
        windows = os.name == "nt"
        self.python = self.folder / ("Scripts/python.exe" if windows else "bin/python")

    def files(self, purpose: str) -> list[Path]:
        """The requirements files that a purpose ("run" or "tests") needs."""
        return [self.root / "requirements.txt"] + (
            [self.root / "tests" / "requirements.txt"] if purpose == "tests" else []
        )

    def fingerprint(self, purpose: str) -> str:
        """What the installation for a purpose would look like now."""
        return fingerprint(self.files(purpose), sys.version_info[:3], sys.platform)

    def state(self) -> dict[str, Any]:
        """What was noted down about the environment; empty where there is none."""
        import json

        try:
            state = json.loads(self.stamp.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return state if isinstance(state, dict) else {}

    def note(self, state: dict[str, Any]) -> None:
        """Write the state as a whole or not at all."""
        import json

        draft = self.stamp.with_suffix(".part")
        draft.write_text(json.dumps(state, indent=1), "utf-8")
        os.replace(draft, self.stamp)

    def ready(self, purpose: str) -> bool:
        """Whether everything for a purpose is installed. Reads three small files, asks nobody."""
        state = self.state()
        if state.get(purpose) != self.fingerprint(purpose) or not self.python.exists():
            return False
        # A graphics card that came later deserves its build; one that is away for a day changes nothing.
        return state.get("build") != "cpu" or state.get("nvidia") is True or not nvidia_present()

    def ensure(self, purpose: str, offline: bool = False) -> None:
        """Install what is missing for a purpose; nothing at all where it is ready."""
        if self.ready(purpose):
            return
        if offline:
            raise Trouble(
                "The packages that Darkroom needs are not all installed yet, and --offline forbids fetching "
                "them: start once without --offline."
            )
        with _Alone(self.root):
            if not self.ready(purpose):
                self._install(purpose)

    def _install(self, purpose: str) -> None:
        import platform

        pins = [pin for file in self.files(purpose) for pin in read_pins(file)]
        torch = [pin for pin in pins if pin_name(pin) in TORCH_PACKAGES]
        state = self.state()
        build = TorchBuild("none", None, "it is not pinned")
        if torch:
            # Adding the tests' packages to a finished program must not turn its torch over.
            if self.ready("run"):
                build = TorchBuild(state["build"], state.get("source"), "it is there already")
            else:
                build = choose_torch(
                    sys.platform,
                    platform.machine(),
                    nvidia_present(),
                    lambda index: index_offers(index, torch),
                )
            say(f"{_build_name(build, torch)} is taken: {build.reason}.")
        if build.name == "cpu":
            pins = [pin for pin in pins if not pin_name(pin).startswith(CUDA_PACKAGES)]

        self._make_venv(fresh=bool(state) and state.get("build") != build.name)
        self.log.write_bytes(b"")
        for name in mend(self._site_packages()):
            say(f"An earlier installation was interrupted in {name}; it is installed again.")
        # Noted before torch arrives: torch and torchvision of two builds do not work together, so a start
        # that would choose another build than an interrupted one begins from an empty environment.
        state = {key: value for key, value in self.state().items() if key == "run" and purpose == "tests"}
        about = {"build": build.name, "source": build.source, "nvidia": nvidia_present()}
        self.note({**state, **about})

        if torch and build.source:
            source = ["--index-url", build.source]
            self._install_pins(torch, "torch and torchvision", source)
        what = f"{len(pins)} packages" + ("" if purpose == "run" else " (the tests' included)")
        self._install_pins(pins, what, [])
        print_ = {name: self.fingerprint(name) for name in {"run", purpose}}
        self.note({**about, **print_, "python": platform.python_version()})
        say("Everything is installed; the next start needs no network.")

    def _make_venv(self, fresh: bool) -> None:
        """A virtual environment of this Python's version; one that is there and fits is used on."""
        import shutil

        version = "{}.{}.".format(*sys.version_info[:2])
        config = self.folder / "pyvenv.cfg"
        there = re.search(r"^version(?:_info)?\s*=\s*(\S+)", _text(config), re.MULTILINE)
        if not fresh and there and f"{there[1]}.".startswith(version) and self._pip_works():
            return
        say(f"Making the environment {self.folder} with Python {version.rstrip('.')}.")
        if self.folder.is_symlink() or self.folder.is_file():
            raise Trouble(f"{self.folder} is in the way: move it aside and start again.")
        made = _call([sys.executable, "-m", "venv", "--clear", str(self.folder)])
        uv = shutil.which("uv")
        if made[0] and uv:
            # Some Linux distributions ship Python without what venv needs; uv does without.
            shutil.rmtree(self.folder, ignore_errors=True)
            made = _call([uv, "venv", "--seed", "--python", sys.executable, str(self.folder)])
        if made[0]:
            raise Trouble(
                f"{made[1].strip()}\n\nThe environment could not be made. On Debian and Ubuntu it takes "
                "the package python3-venv (`sudo apt install python3-venv`); then start again."
            )

    def _pip_works(self) -> bool:
        return self.python.exists() and not _call([str(self.python), "-m", "pip", "--version"])[0]

    def _site_packages(self) -> Path:
        if os.name == "nt":
            return self.folder / "Lib" / "site-packages"
        return self.folder / "lib" / "python{}.{}".format(*sys.version_info[:2]) / "site-packages"

    def _install_pins(self, pins: Sequence[str], what: str, source: Sequence[str]) -> None:
        """Install exactly these pins with uv where it is, else with pip; one line tells how it goes."""
        import shutil

        wanted = self.folder / "wanted.txt"
        wanted.write_text("\n".join(pins) + "\n", "utf-8")
        # The pins are complete, so nothing is resolved: no package can bring along an unpinned one.
        # Nothing is built either: that would fetch build tools which nobody pinned.
        tail = ["--no-deps", "--only-binary", ":all:", *source, "-r", str(wanted)]
        uv = shutil.which("uv")
        if uv:
            command = [uv, "pip", "install", "--python", str(self.python), *tail]
            if watch(command, f"Installing {what} with uv", len(pins), self.log)[0] == 0:
                return
            say("uv could not do it (it does not read pip's settings, for one); pip takes over.")
        # Not compiled beforehand: most of these modules are never imported, and Python compiles the others.
        flags = ["--no-input", "--no-compile", "--disable-pip-version-check", "--progress-bar", "off"]
        command = [str(self.python), "-m", "pip", "install", *flags, *tail]
        code, lines = watch(command, f"Installing {what} with pip", len(pins), self.log)
        if code:
            shown = "\n".join("    " + line for line in lines)
            raise Trouble(
                f"{shown}\n\nThe installation did not finish: pip ended with {code}, and above are its last "
                f"lines (all of them: {self.log}). Mostly it is the network or a full disk: set that right "
                "and give the same command again, it goes on where it stopped."
            )


def _build_name(build: TorchBuild, pins: Sequence[str]) -> str:
    names = {"cpu": "CPU build", "cuda": "CUDA build", "apple": "build for Apple"}
    versions = " with ".join(pin.split(";")[0].strip().replace("==", " ") for pin in pins)
    return f"The {names[build.name]} of {versions} from {build.source or 'the usual package index'}"


def _text(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.is_file() else ""


class _Alone:
    """A lock held while installing, so that two starts at the same time do not write into each other."""

    def __init__(self, root: Path) -> None:
        import hashlib
        import tempfile

        user = os.getuid() if hasattr(os, "getuid") else ""
        name = hashlib.sha256(f"{root}\0{user}".encode()).hexdigest()[:16]
        self.path = Path(tempfile.gettempdir()) / f"darkroom-{name}.lock"

    def __enter__(self) -> None:
        # The system lets go of the lock when the process ends, however it ends.
        self.file = self.path.open("ab")
        if not self._take(wait=False):
            say("Another start is installing already; waiting for it.")
            while not self._take(wait=True):
                pass

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def _take(self, wait: bool) -> bool:
        try:
            if sys.platform == "win32":
                import msvcrt

                self.file.seek(0)
                # Waiting means ten seconds to Windows.
                msvcrt.locking(self.file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(self.file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            return False
        return True


# -------------------------------------------------------------------------------------- running and telling


def say(text: str) -> None:
    """A line for the person at the keyboard, at once even into a pipe."""
    print(text, flush=True)


def _environment() -> dict[str, str]:
    """This process's environment for installers: their own settings stand, but never outside .venv."""
    return {**os.environ, "PIP_USER": "0", "PYTHONUTF8": "1"}


def _call(command: Sequence[str]) -> tuple[int, str]:
    """Run a short command quietly; its exit code and everything it said."""
    import subprocess

    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=_environment(),
    )
    return done.returncode, done.stdout.decode("utf-8", "replace")


# pip's line about each package: one to fetch, one in a folder of wheels, one that is there.
PER_PACKAGE = (
    r"(?:Collecting |Processing (?:\S*/)?|Requirement already satisfied: )([A-Za-z0-9][\w.]*(?:-(?!\d)\w+)*)"
)


def doing(line: str) -> str | None:
    """What a line of pip's or uv's output says is going on; None for lines of no interest."""
    line = line.strip()
    size = re.match(r"Downloading (\S+?)(?:-[0-9]\S*)? \(([\d.]+ ?[kKMG]?i?B)\)$", line)
    if size:
        return f"fetching {size[1].rsplit('/', 1)[-1]} ({size[2]})"
    known = re.match(PER_PACKAGE, line)
    if known:
        return f"looking at {known[1]}"
    if line.startswith(("Installing collected packages", "Prepared ")):
        return "unpacking"
    return "working out what is missing" if line.startswith("Resolved ") else None


def watch(command: Sequence[str], title: str, total: int, log: Path) -> tuple[int, list[str]]:
    """Run an installer and tell on one line how it goes; its exit code and its last lines."""
    import collections
    import queue
    import subprocess
    import threading
    import time

    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=_environment(),
    )
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        assert child.stdout is not None
        for line in child.stdout:
            lines.put(line.decode("utf-8", "replace").rstrip())
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    terminal = sys.stdout.isatty()
    began = said = time.monotonic()
    last: collections.deque[str] = collections.deque(maxlen=25)
    now, seen = "", 0
    if not terminal:
        say(f"{title} ...")
    try:
        with log.open("a", encoding="utf-8") as kept:
            kept.write("$ " + " ".join(command) + "\n")
            while True:
                try:
                    line = lines.get(timeout=0.5)
                except queue.Empty:
                    line = ""
                if line is None:
                    break
                if line:
                    kept.write(line + "\n")
                    last.append(line)
                    now = doing(line) or now
                    seen += re.match(PER_PACKAGE, line) is not None
                clock = time.monotonic()
                # In a terminal the line is redrawn in place; in a log it is repeated now and then.
                if clock - said > (0.1 if terminal else 20) and now:
                    said = clock
                    count = f"{seen} of {total}, " if 0 < seen < total else ""
                    spent = f"{int(clock - began) // 60}:{int(clock - began) % 60:02d}"
                    text = f"{title}: {count}{now}, {spent}"
                    if terminal:
                        width = max(20, _columns() - 1)
                        print("\r" + text[:width].ljust(width), end="", flush=True)
                    else:
                        say(text)
        code = child.wait()
    except BaseException:
        child.terminate()
        child.wait()
        raise
    spent = f"{time.monotonic() - began:.0f} s"
    if terminal:
        print("\r" + " " * max(20, _columns() - 1) + "\r", end="")
    say(f"{title}: done in {spent}." if code == 0 else f"{title}: failed after {spent}.")
    return code, list(last)


def _columns() -> int:
    import shutil

    return shutil.get_terminal_size().columns


# ------------------------------------------------------------------------------------------------- starting


def device_sentence(asked: str, build: str | None, platform: str, nvidia: bool) -> str:
    """Where the program will compute, told before torch is asked (the page says what torch found)."""
    if asked != "auto":
        return f"It will use the device {asked}, as asked."
    if platform == "darwin":
        return "It will use the Apple GPU (mps)."
    if nvidia and build == "cuda":
        return "It will use the NVIDIA GPU (cuda)."
    return "It will use the processor (cpu)."


def start(argv: Sequence[str]) -> int:
    """Install where needed, then become the program."""
    options = parse_options(argv)
    _check_python()
    environment = Environment(ROOT)
    environment.ensure("run", offline=options.offline)
    build = environment.state().get("build")
    say("Darkroom starts. " + device_sentence(options.device, build, sys.platform, nvidia_present()))
    os.chdir(ROOT)
    if options.auth:
        os.environ[AUTH_VARIABLE] = ":".join(options.auth)
    return _become([str(environment.python), "-m", "ui.app", *command_line(options)])


def _become(command: list[str]) -> int:
    if os.name != "nt":
        os.execv(command[0], command)
    import subprocess

    # Windows has no exec that keeps the console; Ctrl+C reaches the program by itself.
    with subprocess.Popen(command) as child:
        while True:
            try:
                return child.wait()
            except KeyboardInterrupt:
                continue


def _check_python() -> None:
    problem = python_problem(sys.version_info[:3])
    if problem:
        other = _other_python()
        advice = (
            f"Run `{other} launch.py` instead."
            if other
            else "Install Python 3.13 (from python.org or your system's packages) and run launch.py with it."
        )
        raise Trouble(f"{problem} {advice}")


# --------------------------------------------------------------------------------------------------- testing

TEST_HELP = """\
usage: python launch.py test [pytest arguments]

Install what the tests need on top of the program (tests/requirements.txt, into the same .venv), find a
browser or get one, and run the complete suite: ruff check, ruff format --check, mypy, then pytest twice on
all cores: what needs no browser, then what drives one. The exit code is 0 only if all of them passed.

With pytest arguments only pytest runs, with these arguments, so that trying one thing stays quick:
    python launch.py test -k launch
    python launch.py test tests/test_layers.py -x

DARKROOM_BROWSER or CHROME_PATH names the Chromium or Chrome to test with.
"""
NO_BROWSER = (
    "No Chromium or Chrome was found and none could be installed, so the browser tests fail: install one "
    "(`sudo apt install chromium`, or Chrome from google.com/chrome) or set DARKROOM_BROWSER to its path."
)


def find_browser() -> str | None:
    """A Chromium or Chrome that is on this machine already."""
    import shutil

    for variable in ("DARKROOM_BROWSER", "CHROME_PATH"):
        path = os.environ.get(variable)
        if path and os.access(path, os.X_OK):
            return path
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    for name in names:
        found = shutil.which(name)
        if found:
            return found
    programs = [os.environ.get(name, "") for name in ("PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA")]
    places = [
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
        "/Applications/Chromium.app/Contents/MacOS/Chromium",
        "/snap/bin/chromium",
        *(os.path.join(folder, "Google/Chrome/Application/chrome.exe") for folder in programs if folder),
    ]
    return next((place for place in places if os.access(place, os.X_OK)), None)


def get_browser(environment: Environment) -> str | None:
    """A browser for the tests: one that is there, Playwright's own, or the system's package."""
    import shutil

    found = find_browser() or _playwrights_browser(environment)
    if found:
        return found
    say("No browser is here; getting Playwright's Chromium.")
    python, log = str(environment.python), environment.log
    watch([python, "-m", "playwright", "install", "chromium"], "Fetching Chromium", 0, log)
    found = _playwrights_browser(environment)
    if found:
        return found
    apt = shutil.which("apt-get")
    if apt and hasattr(os, "geteuid") and os.geteuid() == 0:
        os.environ.setdefault("DEBIAN_FRONTEND", "noninteractive")
        packages = ["--no-install-recommends", "chromium", "fonts-liberation"]
        watch([apt, "update"], "Reading the system's list of packages", 0, log)
        watch([apt, "install", "-y", *packages], "Installing the system's Chromium", 0, log)
    return find_browser()


def _playwrights_browser(environment: Environment) -> str | None:
    """The path of Playwright's Chromium where it is installed and runs."""
    program = (
        "from playwright.sync_api import sync_playwright\n"
        "with sync_playwright() as p: print(p.chromium.executable_path)"
    )
    code, path = _call([str(environment.python), "-c", program])
    path = path.strip()
    if code or not os.access(path, os.X_OK):
        return None
    # On a bare Linux it may lack system libraries; on Windows `--version` would open a window.
    return path if os.name == "nt" or _call([path, "--version"])[0] == 0 else None


def test(argv: Sequence[str]) -> int:
    """Set up what the tests need and run them; 0 only if everything passed."""
    import subprocess

    if list(argv) in (["-h"], ["--help"]):
        print(TEST_HELP, end="")
        return 0
    _check_python()
    environment = Environment(ROOT)
    environment.ensure("tests")
    browser = get_browser(environment)
    if browser:
        os.environ["DARKROOM_BROWSER"] = browser
    say(f"Browser: {browser}" if browser else NO_BROWSER)
    python, failed = str(environment.python), []
    typed = [name for name in ("launch.py", "pipelines", "ui") if (ROOT / name).exists()]
    checks = {
        "ruff check": ["ruff", "check", "."],
        "ruff format --check": ["ruff", "format", "--check", "."],
        "mypy": ["mypy", *typed],
    }
    for name, words in {} if argv else checks.items():
        say(f"== {name}")
        if subprocess.call([python, "-m", *words], cwd=ROOT):
            failed.append(name)
        say(f"== {name}: {'FAILED' if name in failed else 'passed'}")
    # The tests share the cores, one thread each; those with a browser come last and among themselves, because
    # a page that waits for a whole core's work is another test.
    apart = ["-n", str(max(1, min(8, os.cpu_count() or 1))), "--dist", "loadfile"]
    runs: dict[str, Sequence[str]] = (
        {"pytest": argv}
        if argv
        else {
            "pytest": ["-m", "not browser", *apart],
            "pytest, with a browser": ["-m", "browser", *apart],
        }
    )
    code = 0
    for name, options in runs.items():
        # pytest's summary closes the output, so the tests' conftest.py repeats there what failed before.
        os.environ["DARKROOM_FAILED_CHECKS"] = ", ".join(failed)
        say(f"== {name}")
        threads = {} if argv else {"OMP_NUM_THREADS": "1"}
        ended = subprocess.call([python, "-m", "pytest", *options], cwd=ROOT, env={**os.environ, **threads})
        if ended:
            failed.append(name)
        code = code or ended
    return code or int(bool(failed))


def main(argv: Sequence[str]) -> int:
    """Do what the command line asks for; the exit code."""
    try:
        return test(argv[1:]) if argv[:1] == ["test"] else start(argv)
    except Trouble as trouble:
        print(trouble, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from here.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
