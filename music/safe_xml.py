"""XML from strangers: bounded in size and depth, without entities, nothing fetched."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError, TreeBuilder
from xml.parsers import expat

LARGEST_XML = 64 * 2**20  # bytes unpacked; the longest opera acts have about half
LARGEST_ARCHIVE = 32 * 2**20  # bytes packed
MOST_MEMBERS = 1000
MOST_ELEMENTS = 4_000_000
DEEPEST = 64
FAULTS = (RuntimeError, EOFError, OSError, LookupError)  # of a damaged archive
ARCHIVE_SUFFIX = ".mxl"  # of an archive that was put into another one


def parse_xml(data: bytes, name: str) -> Element:
    """Parse a document that may name a document type but may not declare or include anything.

    Raises ValueError, naming `name`, for an internal subset, entity declarations, external
    entities, documents too large or too deep, and broken XML.
    """
    if len(data) > LARGEST_XML:
        raise ValueError(f"{name}: {len(data)} bytes of XML; expected at most {LARGEST_XML}")
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    count = depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal count, depth
        count, depth = count + 1, depth + 1
        if count > MOST_ELEMENTS or depth > DEEPEST:
            raise ValueError(
                f"{name}: more than {MOST_ELEMENTS} elements, or deeper than {DEEPEST}; refused"
            )
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def doctype(_name: str, _system: str | None, _public: str | None, has_subset: int) -> None:
        if has_subset:
            raise ValueError(f"{name}: declares a document type of its own; refused")

    def entity(*_: object) -> int:
        raise ValueError(f"{name}: declares or includes entities; refused")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = doctype
    parser.EntityDeclHandler = parser.ExternalEntityRefHandler = entity
    parser.SkippedEntityHandler = entity
    try:
        parser.Parse(data, True)
        return builder.close()
    except (expat.ExpatError, ParseError, AssertionError) as error:
        raise ValueError(f"{name}: not well-formed XML ({error})") from error


def read_compressed(path: Path, container: str, suffixes: tuple[str, ...]) -> bytes:
    """Return the root document of a zip archive.

    That is the one `container` names, else the first with one of `suffixes`, else that of the only
    archive inside. Nothing is unpacked to disk, and no member is read beyond LARGEST_XML bytes.
    Raises ValueError for a broken or oversized archive, or one without such a document.
    """
    if path.stat().st_size > LARGEST_ARCHIVE:
        raise ValueError(f"{path}: larger than {LARGEST_ARCHIVE} bytes")
    return _root_document(path.read_bytes(), path, container, suffixes)


def _root_document(
    data: bytes, path: Path, container: str, suffixes: tuple[str, ...], is_inner: bool = False
) -> bytes:
    """Return the root document of an archive's bytes, or of the only archive within it."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            if len(names) > MOST_MEMBERS:
                raise ValueError(f"{path}: {len(names)} files inside; expected {MOST_MEMBERS}")
            names = [name for name in names if not _is_litter(name)]
            wanted = None
            if container in names:
                root = parse_xml(_bounded(archive, container, path), f"{path}:{container}")
                wanted = next(
                    (e.get("full-path") for e in root.iter() if e.tag.endswith("rootfile")), None
                )
            documents = [n for n in names if n.endswith(suffixes) and "META-INF/" not in n]
            chosen = wanted if wanted in names else next(iter(documents), None)
            archives = [n for n in names if n.lower().endswith(ARCHIVE_SUFFIX)]
            if chosen is None and len(archives) == 1 and not is_inner:
                inner = _bounded(archive, archives[0], path)
                return _root_document(inner, path, container, suffixes, is_inner=True)
            if chosen is None:
                raise ValueError(f"{path}: no score inside; expected one of {', '.join(suffixes)}")
            return _bounded(archive, chosen, path)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, *FAULTS) as error:
        raise ValueError(f"{path}: not a readable zip archive ({error})") from error


def _is_litter(name: str) -> bool:
    """Return whether a member was added by a Mac: resource forks, settings of folders."""
    return "__MACOSX/" in name or name.rpartition("/")[2].startswith("._")


def _bounded(archive: zipfile.ZipFile, member: str, path: Path) -> bytes:
    """Return a member's bytes, or refuse it when it unpacks to more than LARGEST_XML."""
    with archive.open(member) as file:
        data = file.read(LARGEST_XML + 1)
    if len(data) > LARGEST_XML:
        raise ValueError(f"{path}: {member} unpacks to more than {LARGEST_XML} bytes; refused")
    return data
