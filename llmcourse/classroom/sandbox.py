"""What the process with a student's code may see and use.

    sees      the system and this Python, read-only; the assignment's data, read-only
    does not  the network, other processes, the course's folder, the home folder,
              environment variables; the package's own answers
    limits    processor time, memory, processes, size of a file, size of all files

This is done by bubblewrap (`bwrap`, https://github.com/containers/bubblewrap), which
uses the kernel's namespaces. Without bubblewrap, `start` refuses, unless
`unsafe` says that the code may run without a sandbox.
"""

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
HOME = "/home/student"
MISSING = (
    "grading runs other people's code, and needs bubblewrap to isolate it: "
    "apt-get install bubblewrap (Debian, Ubuntu), dnf install bubblewrap (Fedora). "
    "On macOS and Windows, where there is none, grade in a container, as the book's "
    "page For instructors shows. "
    "With --unsafe it runs without: hand-ins can then read and change all that you can."
)


# What one hand-in may use.
CPU_SECONDS = 120  # or four times what one cell may take
MEMORY = 6 << 30  # bytes of address space
PROCESSES = 24  # and threads
FILE_BYTES = 64 << 20  # of one file
DISK_BYTES = 256 << 20  # of all files


def available() -> bool:
    """Return whether a sandbox can be made here."""
    if shutil.which("bwrap") is None:
        return False
    command = [*_bwrap(None, ()), shutil.which("true") or "/bin/true"]
    return subprocess.run(command, capture_output=True).returncode == 0


def start(
    seconds: float = 30,
    *,
    memory: int = MEMORY,
    data: Path | None = None,
    blocked: Sequence[str] = (),
    unsafe: bool = False,
    user: int = 0,
) -> subprocess.Popen[bytes]:
    """Start the process that runs a student's code (`child`).

    Args:
        seconds: How long one cell may take.
        memory: How many bytes it may use.
        data: A folder whose files appear in its working folder.
        blocked: Modules of the package that hold the answers, such as
            `llmcourse.text.bpe`. They cannot be imported.
        unsafe: Run without a sandbox: for your own code, or on a machine that holds
            nothing else.
        user: Without a sandbox, the id of the user who runs it; only root can choose
            one, and 0 changes nothing.

    Raises:
        OSError: If there is no bubblewrap, and `unsafe` is false.
    """
    if not unsafe:  # each of several at once gets its own user
        user = 0 if os.getuid() else 50_000 + os.getpid() % 10_000
    used = {
        "RLIMIT_CPU": max(CPU_SECONDS, math.ceil(4 * seconds)),
        "RLIMIT_AS": memory,
        "RLIMIT_FSIZE": FILE_BYTES,
        "RLIMIT_NPROC": 0 if unsafe else PROCESSES,
        "user": user,
    }
    run = [sys.executable, "-m", "llmcourse.classroom.child", json.dumps(used)]
    environment = {
        "PATH": f"{sys.prefix}/bin:/usr/bin:/bin",
        "HOME": HOME,
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(PACKAGE.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "MPLBACKEND": "agg",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
    if unsafe:
        own = {name: os.environ.get(name, "") for name in ("PATH", "HOME")}
        environment = {**os.environ, **environment, **own}
        environment.pop("LLMCOURSE_SEED", None)  # seeds hidden tests' inputs
    else:
        run = [*_bwrap(data, blocked), *run]
    return subprocess.Popen(
        run,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd=data if unsafe else None,
        start_new_session=True,  # so that all it starts can be killed with it
    )


def files_of(modules: Iterable[str]) -> list[Path]:
    """Return the files that modules of this package load from, compiled ones included.

    Raises:
        ValueError: If there is no such module.
    """
    found = []
    for module in modules:
        path = PACKAGE.joinpath(*module.split(".")[1:])
        source = path if path.is_dir() else path.with_suffix(".py")
        if not source.exists():
            raise ValueError(f"there is no module {module} to block")
        found += [source, *path.parent.glob(f"__pycache__/{path.name}.*")]
    return found


def _bwrap(data: Path | None, blocked: Sequence[str]) -> list[str]:
    """Return a command prefix that runs a command in a sandbox."""
    # Root needs no user namespace, and gives up its rights in the child.
    # Anyone else gets a namespace in which they are nobody.
    rights = ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    if os.getuid():
        rights = ["--unshare-user"]
    command = ["bwrap", "--unshare-pid", "--unshare-net", "--unshare-ipc"]
    command += ["--unshare-uts", "--unshare-cgroup-try", "--die-with-parent"]
    command += ["--new-session", "--cap-drop", "ALL", *rights]
    command += ["--proc", "/proc", "--dev", "/dev"]
    size = ["--perms", "1777", "--size", str(DISK_BYTES), "--tmpfs"]
    command += [*size, "/tmp", *size, "/dev/shm"]
    made: set[Path] = {Path("/")}

    def folders(path: Path) -> list[str]:
        """Return options to make the folders above a path, open to all."""
        above = [p for p in reversed(path.parents) if p not in made]
        made.update(above)
        return [x for p in above for x in ("--perms", "0755", "--dir", str(p))]

    system = ["/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/alternatives"]
    places = {Path(place) for place in (*system, sys.prefix, sys.base_prefix)}
    for place in sorted(places, key=lambda place: len(place.parts)):
        if place.exists():
            command += [*folders(place), "--ro-bind", str(place), str(place)]
            made.add(place)
    command += [*folders(PACKAGE), "--ro-bind", str(PACKAGE), str(PACKAGE)]
    for path in files_of(blocked):
        empty = ["--tmpfs"] if path.is_dir() else ["--ro-bind", "/dev/null"]
        command += [*empty, str(path)]
    command += [*folders(Path(HOME)), *size, HOME]
    for file in sorted(data.iterdir()) if data is not None else ():
        command += ["--ro-bind", str(file), f"{HOME}/{file.name}"]
    return [*command, "--chdir", HOME]
