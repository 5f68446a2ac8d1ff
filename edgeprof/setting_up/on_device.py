"""What runs on the device: say what its Python is, make environments out of wheels, remove all that edgeprof put there.

The host sends this file's text to the device's own Python (3.9 or newer, see `STARTER` in there.py), with one request
in JSON; one line answers. Only the standard library is used, of which ensurepip and venv may be missing: an
environment is a link to Python, a pyvenv.cfg and a folder of unpacked wheels (PEP 405, PEP 427), and needs neither.

Everything lies in the agent's one folder (device_agents/files.py, `cache_dir`). An environment is made under a name
that begins with a dot and renamed when it is whole, so half of one is never used.
"""

import contextlib
import errno
import fcntl
import glob
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import zipfile
from typing import Any, Dict, List, Optional, Tuple

MARK = "edgeprof-setup "
FRESH = ".new-"
# device_agents/lease.py
LEASE, SHARED_FOLDERS = "edgeprof.lease", ("/run/lock", "/tmp")  # noqa: S108 - only looked at, and opened with care
# An ELF file names its loader near its beginning; musl's tells its version when it is run (ldso/dynlink.c).
HEAD_BYTES = 8192
MUSL_LOADER = re.compile(rb"/[\w./-]*/ld-musl-[\w-]+\.so\.1")
MUSL_VERSION = re.compile(r"Version (\d+)\.(\d+)")
CHUNK_BYTES = 1024 * 1024


def cache_dir() -> str:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "edgeprof")


def look(request: Dict[str, Any]) -> Dict[str, Any]:
    """What wheels must fit, and what is there already; nothing is changed."""
    cache = cache_dir()
    libc, libc_version = c_library()
    unwritable, free_bytes = room(cache)
    return {
        "python": list(sys.version_info[:3]),
        "implementation": sys.implementation.name,
        "flags": getattr(sys, "abiflags", ""),
        "bits": struct.calcsize("P") * 8,
        "machine": os.uname().machine,
        "system": sys.platform,
        "libc": libc,
        "libc_version": libc_version,
        "has_ensurepip": importlib.util.find_spec("ensurepip") is not None,
        "other_pythons": other_pythons(),
        "cache": cache,
        "unwritable": unwritable,
        "free_bytes": free_bytes,
        "environments": sorted(name for name in listed(os.path.join(cache, "runtimes")) if not name.startswith(".")),
    }


def c_library() -> Tuple[str, Optional[List[int]]]:
    """The name, glibc or musl, with its version; or an empty name."""
    with contextlib.suppress(AttributeError, ValueError, OSError):
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        if name == "glibc":
            return name, [int(part) for part in version.split(".")[:2]]
    with open(sys.executable, "rb") as file:
        found = MUSL_LOADER.search(file.read(HEAD_BYTES))
    if found is None:
        return platform.libc_ver()[0], None
    said = subprocess.run(
        [found[0].decode()], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False, timeout=10
    )
    told = MUSL_VERSION.search(said.stderr.decode("utf-8", "replace"))
    return "musl", [int(told[1]), int(told[2])] if told else None


def other_pythons() -> Dict[str, str]:
    """Paths of other Pythons by version, as "3.11"."""
    names = [f"3.{minor}" for minor in range(9, 30) if minor != sys.version_info[1]]
    found = {name: shutil.which("python" + name) for name in names}
    return {name: path for name, path in found.items() if path}


def room(cache: str) -> Tuple[Optional[str], int]:
    """Why nothing can be written where the cache is or will be, or None; and the free bytes there."""
    place = cache
    while not os.path.isdir(place):
        place = os.path.dirname(place)
    status = os.statvfs(place)
    why = None
    if status.f_flag & os.ST_RDONLY:
        why = f"{place} is on a file system that is mounted read-only"
    elif not os.access(place, os.W_OK | os.X_OK):
        why = f"this user may not write in {place}"
    return why, status.f_bavail * status.f_frsize


def prepare(request: Dict[str, Any]) -> Dict[str, Any]:
    """Make the folders for uploads and environments; remove what killed set-ups have left."""
    cache = cache_dir()
    base = os.path.dirname(cache)
    was_there = os.path.isdir(base)
    for name in ("uploads", "runtimes"):
        os.makedirs(os.path.join(cache, name), mode=0o700, exist_ok=True)
    if not was_there:
        with open(os.path.join(cache, "made-parent"), "w", encoding="ascii"):
            pass  # clean() takes that folder along
    runtimes = os.path.join(cache, "runtimes")
    for name in listed(runtimes):
        if name.startswith(FRESH) and not is_running(name[len(FRESH) :].split("-")[0]):
            shutil.rmtree(os.path.join(runtimes, name))
    return {"uploads": os.path.join(cache, "uploads")}


def install(request: Dict[str, Any]) -> Dict[str, Any]:
    """Make the environment `name` of uploaded wheels, each named by its SHA-256; corrupt ones are removed and told."""
    uploads = os.path.join(cache_dir(), "uploads")
    runtimes = os.path.join(cache_dir(), "runtimes")
    target = os.path.join(runtimes, plain(request["name"]))
    wheels = [os.path.join(uploads, plain(digest)) for digest in request["wheels"]]
    corrupt = [os.path.basename(path) for path in wheels if sha256(path) != os.path.basename(path)]
    for digest in corrupt:
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(uploads, digest))
    if corrupt:
        return {"corrupt": corrupt}
    fresh = tempfile.mkdtemp(prefix=f"{FRESH}{os.getpid()}-", dir=runtimes)
    try:
        packages = bare_environment(fresh)
        for wheel in wheels:
            unpack(wheel, packages)
        # After a power cut the name must not be there without the content.
        os.sync()
        rename(fresh, target)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    for wheel in wheels:
        with contextlib.suppress(FileNotFoundError):
            os.remove(wheel)
    return {"corrupt": [], "python": os.path.join(target, "bin", "python")}


def bare_environment(folder: str) -> str:
    """A virtual environment without packages (PEP 405); the folder for them."""
    python = getattr(sys, "_base_executable", None) or sys.executable
    version = "{}.{}".format(*sys.version_info[:2])
    packages = os.path.join(folder, "lib", "python" + version, "site-packages")
    os.makedirs(packages)
    os.mkdir(os.path.join(folder, "bin"))
    for name in ("python", "python3"):
        os.symlink(python, os.path.join(folder, "bin", name))
    with open(os.path.join(folder, "pyvenv.cfg"), "w", encoding="utf-8") as file:
        file.write(f"home = {os.path.dirname(python)}\ninclude-system-site-packages = false\nversion = {version}\n")
    return packages


def unpack(wheel: str, packages: str) -> None:
    """The modules of a wheel; what it has for other places (scripts, headers) is of no use to an agent."""
    with zipfile.ZipFile(wheel) as file:
        for entry in file.infolist():
            name = entry.filename
            top, _, rest = name.partition("/")
            if top.endswith(".data"):
                kind, _, name = rest.partition("/")
                if kind not in ("purelib", "platlib"):
                    continue
            path = os.path.normpath(os.path.join(packages, name))
            if not path.startswith(packages + os.sep):
                raise ValueError(f"{name!r} points outside the environment")
            if entry.is_dir():
                continue
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with file.open(entry) as source, open(path, "wb") as copy:
                shutil.copyfileobj(source, copy, CHUNK_BYTES)


def rename(fresh: str, target: str) -> None:
    try:
        os.rename(fresh, target)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        shutil.rmtree(fresh)  # another set-up was faster, with the same content


def discard(request: Dict[str, Any]) -> Dict[str, Any]:
    """Remove environments by name."""
    for name in request["names"]:
        shutil.rmtree(os.path.join(cache_dir(), "runtimes", plain(name)), ignore_errors=True)
    return {}


def clean(request: Dict[str, Any]) -> Dict[str, Any]:
    """Remove everything, unless somebody needs it: `held_by`, `tickets` and `clocks` then say what.

    With `dry_run` nothing is removed; with `force` results that nobody has fetched are.
    """
    cache = cache_dir()
    left: List[str] = []
    found: Dict[str, Any] = {
        "bytes": size_bytes(cache),
        "held_by": None,
        "tickets": 0,
        "clocks": 0,
        "left": left,
        "path": cache,
    }
    with contextlib.ExitStack() as held:
        leases = [path for path in lease_paths() if not os.path.islink(path) and os.path.isfile(path)]
        found["held_by"] = next((who for path in leases for who in [taken(path, held)] if who), None)
        found["tickets"] = len(
            glob.glob(os.path.join(glob.escape(cache), "spool", "**", "tickets", "*"), recursive=True)
        )
        found["clocks"] = len([name for name in listed(os.path.join(cache, "clocks")) if not name.startswith(".")])
        is_needed = found["held_by"] or found["clocks"] or (found["tickets"] and not request["force"])
        if request["dry_run"] or is_needed:
            return found
        for path in leases:
            if os.lstat(path).st_uid == os.getuid():
                os.remove(path)
            else:
                left.append(path)
        remove_all(cache)
    return found


def remove_all(cache: str) -> None:
    made_parent = os.path.exists(os.path.join(cache, "made-parent"))
    if os.path.isdir(cache):
        shutil.rmtree(cache)
    if made_parent:
        with contextlib.suppress(OSError):  # others keep things there by now
            os.rmdir(os.path.dirname(cache))


def lease_paths() -> List[str]:
    """Wherever an agent of this account may have put the file that says who has the device."""
    chosen = os.environ.get("EDGEPROF_LEASE")
    slots = glob.glob(os.path.join(glob.escape(cache_dir()), "spool", "slots", "*", LEASE.split(".")[-1]))
    return [os.path.join(folder, LEASE) for folder in ([chosen] if chosen else SHARED_FOLDERS)] + slots


def taken(path: str, held: contextlib.ExitStack) -> Optional[str]:
    """Who has the lease; None for nobody, and then it is ours for as long as `held` lasts."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    held.callback(os.close, descriptor)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        record: Any = None
        with contextlib.suppress(ValueError):
            record = json.loads(os.read(descriptor, 4096).decode("utf-8", "replace").strip("\0 \n"))
        return str(record.get("owner")) if isinstance(record, dict) else "somebody"
    return None


def size_bytes(folder: str) -> int:
    total = 0
    for base, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(base, name)).st_size
    return total


def plain(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", name):
        raise ValueError(f"{name!r} cannot be a name")
    return name


def listed(folder: str) -> List[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def is_running(pid: str) -> bool:
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def sha256(path: str) -> Optional[str]:
    state = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            for chunk in iter(lambda: file.read(CHUNK_BYTES), b""):
                state.update(chunk)
    except FileNotFoundError:
        return None
    return state.hexdigest()


def answered(request: Dict[str, Any]) -> Dict[str, Any]:
    verbs = {"look": look, "prepare": prepare, "install": install, "discard": discard, "clean": clean}
    try:
        return verbs[request["verb"]](request)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        return {
            "error": f"{error.strerror}{where}",
            "is_full": error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
        }
    except (ValueError, zipfile.BadZipFile) as error:
        return {"error": str(error), "is_full": False}


if __name__ == "__main__":
    # A host that is gone must not leave half an environment behind.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    # A limit on the size of files is told as an error, as a full disk is.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    print(MARK + json.dumps(answered(json.loads(sys.argv[1]))))  # noqa: T201 - the answer
