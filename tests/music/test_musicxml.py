"""MusicXML: repeats, voltas, verses, ties, pick-ups, transposition; hostile and broken files."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from music.musicxml import read_musicxml
from music.repeats import MeasureMarks, play_order
from music.score import Melody
from music.underlay import sing
from text.frontend import Pronouncer

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "lieder_en"
VOICE = '<score-part id="P1"><part-name>Voice</part-name></score-part>'
PIANO = '<score-part id="P2"><part-name>Piano</part-name></score-part>'


def note(name: str, duration: int, *lyrics: str, extra: str = "", voice: int = 1) -> str:
    """Return a note as XML; a lyric is text, with - behind it when the word goes on."""
    words = "".join(
        f'<lyric number="{k}"><syllabic>{"begin" if text.endswith("-") else "single"}</syllabic>'
        f"<text>{text.rstrip('-')}</text></lyric>"
        for k, text in enumerate(lyrics, start=1)
        if text
    )
    pitch = f"<pitch><step>{name[0]}</step><octave>{name[-1]}</octave></pitch>"
    if name == "rest":
        pitch = "<rest/>"
    first, _, last = extra.partition("|")
    return (
        f"<note>{first}{pitch}<duration>{duration}</duration>{last}<voice>{voice}</voice>"
        f"{words}</note>"
    )


def measure(*content: str, head: str = "") -> str:
    return f"<measure>{head}{''.join(content)}</measure>"


FOUR = (
    "<attributes><divisions>2</divisions><time><beats>4</beats><beat-type>4</beat-type></time>"
    "</attributes>"
)


def write(path: Path, *measures: str, parts: str = VOICE, more: str = "") -> Path:
    path.write_text(
        '<?xml version="1.0"?><!DOCTYPE score-partwise PUBLIC "-//X//DTD Y//EN" "http://x/y.dtd">'
        f'<score-partwise><part-list>{parts}</part-list><part id="P1">{"".join(measures)}</part>'
        f"{more}</score-partwise>",
        encoding="utf-8",
    )
    return path


def barline(*content: str) -> str:
    return f"<barline>{''.join(content)}</barline>"


def remarks_on(path: Path) -> tuple[str, ...]:
    """Return the remarks on a file, but not that it has no tempo: hardly any here has one."""
    remarks = read_musicxml(path).melody.remarks
    return tuple(remark for remark in remarks if "no tempo is written" not in remark)


REPEAT = barline('<repeat direction="backward"/>')


def beat_at(melody: Melody, seconds: float) -> float:
    """Return the beat (quarter note, from 0) at a time."""
    return melody.tempo.tick_at(seconds) / melody.tempo.ticks_per_beat


def sung(path: Path, **options: object) -> list[tuple[str | None, float]]:
    """Return each note's syllable and its onset in beats."""
    melody = read_musicxml(path, **options).melody
    return [
        (lyric.text if lyric else None, round(beat_at(melody, n.onset), 6))
        for n, lyric in zip(melody.notes, melody.lyrics, strict=True)
    ]


def test_repeats_sing_the_next_verse(tmp_path: Path) -> None:
    path = write(tmp_path / "x.musicxml", measure(note("C4", 8, "one", "two"), REPEAT, head=FOUR))
    assert sung(path) == [("one", 0), ("two", 4)]
    assert read_musicxml(path).verses == 2
    plain = write(tmp_path / "y.xml", measure(note("C4", 8, "one", "two"), head=FOUR))
    assert sung(plain) == [("one", 0)] and sung(plain, verse=2) == [("two", 0)]


def test_voltas(tmp_path: Path) -> None:
    first = barline('<ending number="1" type="start"/>')
    first_end = barline('<ending number="1" type="stop"/>', '<repeat direction="backward"/>')
    second = barline('<ending number="2" type="start"/>')
    second_end = barline('<ending number="2" type="stop"/>')
    path = write(
        tmp_path / "x.xml",
        measure(note("C4", 8, "a", "b"), head=FOUR),
        measure(note("D4", 8, "first"), first_end, head=first),
        measure(note("E4", 8, "second"), second_end, head=second),
        measure(note("F4", 8, "end")),
    )
    assert [text for text, _ in sung(path)] == ["a", "first", "b", "second", "end"]


def test_jumps() -> None:
    plain = [MeasureMarks() for _ in range(5)]
    plain[1].segno = plain[2].to_coda = plain[3].dal_segno = plain[4].coda = True
    assert play_order(plain) == [0, 1, 2, 3, 1, 2, 4]
    fine = [MeasureMarks(), MeasureMarks(fine=True), MeasureMarks(da_capo=True)]
    assert play_order(fine) == [0, 1, 2, 0, 1]
    twice = [MeasureMarks(), MeasureMarks(forward=True, backward=3), MeasureMarks()]
    assert play_order(twice) == [0, 1, 1, 1, 2]
    with pytest.raises(ValueError, match="more than 5000 measures"):
        play_order([MeasureMarks() for _ in range(4000)] + [MeasureMarks(backward=2)])


def test_pick_up_tie_and_melisma(tmp_path: Path) -> None:
    start, stop = '|<tie type="start"/>', '|<tie type="stop"/>'
    path = write(
        tmp_path / "x.xml",
        measure(note("G4", 2, "A-"), head=FOUR),
        measure(note("C4", 8, "maz", extra=start)),
        measure(note("C4", 2, extra=stop), note("E4", 2), note("rest", 4)),
    )
    melody = read_musicxml(path).melody
    ends = [(beat_at(melody, n.onset), beat_at(melody, n.offset)) for n in melody.notes]
    assert ends == [(0, 1), (1, 6), (6, 7)]
    assert [lyric and lyric.continues for lyric in melody.lyrics] == [True, False, None]


def test_tempo_marks_and_transposition(tmp_path: Path) -> None:
    head = FOUR.replace(
        "</attributes>",
        "<transpose><chromatic>-2</chromatic></transpose></attributes>"
        '<direction><sound tempo="60"/></direction>',
    )
    metronome = (
        "<direction><direction-type><metronome><beat-unit>half</beat-unit>"
        "<per-minute>c. 60</per-minute></metronome></direction-type></direction>"
    )
    path = write(
        tmp_path / "x.xml",
        measure(note("C4", 8, "la"), head=head),
        measure(note("D4", 8, "lo"), head=metronome),
    )
    melody = read_musicxml(path).melody
    assert [(n.pitch, n.onset, n.offset) for n in melody.notes] == [(58, 0, 4), (60, 4, 6)]


def test_grace_zero_length_and_chord_notes(tmp_path: Path) -> None:
    grace = note("B4", 0, "oh", extra="<grace/>").replace("<duration>0</duration>", "")
    chord = note("G4", 4, extra="<chord/>")
    path = write(
        tmp_path / "x.xml",
        measure(grace, note("C4", 4), chord, note("D4", 0, "skip"), note("E4", 4), head=FOUR),
    )
    song = read_musicxml(path)
    assert [n.pitch for n in song.melody.notes] == [67, 64]
    assert sung(path) == [("oh", 0), ("skip", 2)]
    assert remarks_on(path) == (
        "not sung: 1 grace notes left out",
        "not sung: 1 notes of no length left out",
    )


def test_the_part_with_lyrics_is_the_voice(tmp_path: Path) -> None:
    piano = f'<part id="P2">{measure(note("C3", 8), head=FOUR)}</part>'
    voice = measure(note("C4", 8, "la"), head=FOUR)
    song = read_musicxml(write(tmp_path / "x.xml", voice, parts=VOICE + PIANO, more=piano))
    assert [n.pitch for n in song.melody.notes] == [60]
    assert [[n.pitch for n in part.notes] for part in song.backing] == [[48]]
    duet = piano.replace("</note>", "<lyric><text>lo</text></lyric></note>")
    names = (VOICE + PIANO).replace("Voice", "Soprano").replace("Piano", "Alto")
    path = write(tmp_path / "y.xml", voice, parts=names, more=duet)
    with pytest.raises(ValueError, match=r"2 parts have lyrics: 1: 'Soprano', 2: 'Alto'.* --part"):
        read_musicxml(path)
    for part in ("Alto", "alt", "2", "P2"):
        assert sung(path, part=part) == [("lo", 0)]
    with pytest.raises(ValueError, match="no part 'Tenor'"):
        read_musicxml(path, part="Tenor")
    guessed = read_musicxml(write(tmp_path / "g.xml", voice, parts=VOICE + PIANO, more=duet))
    assert guessed.melody.remarks[0].startswith("guessed: part 'Voice'")
    silent = write(tmp_path / "z.xml", voice.replace("la", ""), parts=names, more=piano)
    with pytest.raises(ValueError, match="none lyrics"):
        read_musicxml(silent)


def test_a_second_voice_in_the_part_accompanies(tmp_path: Path) -> None:
    backup = "<backup><duration>8</duration></backup>"
    both = measure(note("C5", 8, "la"), backup, note("C4", 8, voice=2), head=FOUR)
    song = read_musicxml(write(tmp_path / "x.xml", both))
    assert [n.pitch for n in song.melody.notes] == [72]
    assert [n.pitch for n in song.backing[0].notes] == [60]


def test_another_voice_sings_where_the_first_one_rests(tmp_path: Path) -> None:
    backup = "<backup><duration>8</duration></backup>"
    cue = note("C5", 8, extra="<cue/>")
    path = write(
        tmp_path / "x.xml",
        measure(note("C5", 4, "one"), note("C5", 4, "by"), head=FOUR),
        measure(note("C5", 8, "one"), backup, note("E4", 8, "low", voice=2)),
        measure(note("rest", 4), note("D5", 4, "two"), backup, note("E4", 4, "low", voice=2)),
        measure(cue, backup, note("F4", 8, "held", voice=2)),
    )
    words = [("one", 0), ("by", 2), ("one", 4), ("low", 8), ("two", 10), ("held", 12)]
    assert sung(path) == words
    song = read_musicxml(path)
    assert [n.pitch for n in song.backing[0].notes] == [64]  # it sounds with the first
    assert remarks_on(path) == (
        "changed: 2 notes of voice 2 sung where 1 rests",
        "not sung: 1 syllables of voice 2, which sings at the same time",
    )


def test_verses_that_are_not_sung_are_remarked(tmp_path: Path) -> None:
    path = write(tmp_path / "x.xml", measure(note("C4", 8, "one", "two", "three"), head=FOUR))
    remarks = remarks_on(path)
    assert remarks == (
        "not sung: verse 2 (1 syllables), 3 (1 syllables); --verse N sings another one",
    )
    assert sung(path, verse=3) == [("three", 0)]
    with pytest.raises(ValueError, match=r"no verse 4 .* verses are 1, 2, 3"):
        read_musicxml(path, verse=4)


def texts(path: Path) -> list[str]:
    """Return the syllables of a file, a hyphen behind those whose word goes on."""
    lyrics = (lyric for lyric, _ in read_musicxml(path).melody.groups())
    return [lyric.text + "-" * lyric.continues for lyric in lyrics]


def test_hyphens_that_only_part_syllables_are_dropped(tmp_path: Path) -> None:
    rows = (("glo-", "begin"), ("-ri-", "middle"), ("-a", "end"), ("yes", "single"))
    notes = [
        note("C4", 2, "x").replace("single", kind).replace("x<", f"{text}<") for text, kind in rows
    ]
    assert texts(write(tmp_path / "x.xml", measure(*notes, head=FOUR))) == [
        "glo-",
        "ri-",
        "a",
        "yes",
    ]
    kept = (("well-", "begin"), ("known", "end"), ("se", "begin"), ("cret", "end"), ("se", "begin"))
    notes = [
        note("C4", 2, "x").replace("single", kind).replace("x<", f"{text}<") for text, kind in kept
    ]
    found = texts(write(tmp_path / "y.xml", measure(*notes, head=FOUR)))
    assert found == ["well--", "known", "se-", "cret", "se-"]


def test_elision_goes_on_with_the_second_word(tmp_path: Path) -> None:
    elided = note("D4", 4, "ry").replace(
        "<text>ry</text>",
        "<text>ry</text><elision>‿</elision><syllabic>begin</syllabic><text>an</text>",
    )
    path = write(
        tmp_path / "x.xml", measure(note("C4", 2, "glo-"), elided, note("E4", 2, "gel"), head=FOUR)
    )
    assert texts(path) == ["glo-", "ry an-", "gel"]
    syllables = sing(read_musicxml(path).melody, Pronouncer()).score.syllables
    assert [" ".join(s.phonemes) for s in syllables] == ["G L AO1", "R IY0", "EY1 N", "JH AH0 L"]
    assert [len(s.notes) for s in syllables] == [1, 1, 1, 1]


def said(text: str) -> str:
    return f"<direction><direction-type><words>{text}</words></direction-type></direction>"


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        (("", "Fine", "D.C. al Fine"), "abcab"),
        (("", "fine", "Da Capo al Fine"), "abcab"),
        (("To Coda", "D.C. al Coda", "Coda"), "abac"),
        (("", "", "D.C."), "abcabc"),
        (("", "", "a fine day"), "abc"),
    ],
)
def test_jumps_in_words(tmp_path: Path, marks: tuple[str, ...], expected: str) -> None:
    measures = [
        measure(
            *([said(mark)] if mark == "Coda" else []), note("C4", 8, word), said(mark), head=FOUR
        )
        for word, mark in zip("abc", marks, strict=True)
    ]
    path = write(tmp_path / "x.xml", *measures)
    assert "".join(text for text, _ in sung(path)) == expected
    remarks = remarks_on(path)
    assert len(remarks) == (len(expected) > 3) and all(r.startswith("repeated: D") for r in remarks)


def test_archives_that_a_mac_has_zipped_again(tmp_path: Path) -> None:
    plain = write(tmp_path / "x.musicxml", measure(note("C4", 8, "la"), head=FOUR)).read_bytes()
    with zipfile.ZipFile(tmp_path / "mac.mxl", "w") as archive:
        archive.writestr("__MACOSX/song/._x.xml", b"\0\5\x16\7 Mac OS X")
        archive.writestr("song/._x.xml", b"\0\5\x16\7 Mac OS X")
        archive.writestr("song/META-INF/container.xml", "<container/>")
        archive.writestr("song/x.xml", plain)
    assert sung(tmp_path / "mac.mxl") == [("la", 0)]
    with zipfile.ZipFile(tmp_path / "twice.mxl", "w") as archive:
        archive.write(tmp_path / "mac.mxl", "song.mxl")
    assert sung(tmp_path / "twice.mxl") == [("la", 0)]


ENTITY = '<!DOCTYPE score-partwise [<!ENTITY x "y">]>'
EXTERNAL = '<!DOCTYPE score-partwise [<!ENTITY x SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize("doctype", [ENTITY, EXTERNAL])
def test_entities_are_refused(tmp_path: Path, doctype: str) -> None:
    path = tmp_path / "x.musicxml"
    path.write_text(f"<?xml version='1.0'?>{doctype}<score-partwise>&x;</score-partwise>")
    with pytest.raises(ValueError, match="refused"):
        read_musicxml(path)


def test_bombs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.mxl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("score.xml", b"<a>" + b" " * (65 * 2**20))
    assert path.stat().st_size < 2**20
    with pytest.raises(ValueError, match="unpacks to more than"):
        read_musicxml(path)
    deep = tmp_path / "deep.xml"
    deep.write_text("<score-partwise>" * 100)
    with pytest.raises(ValueError, match="deeper than"):
        read_musicxml(deep)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not well-formed"),
        (b"<html/>", "no MusicXML score"),
        (b"<score-partwise><part-list/></score-partwise>", "no part has notes"),
    ],
)
def test_broken_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.xml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_musicxml(path)
    assert str(caught.value).count(str(path)) == 1
    archive = tmp_path / "x.mxl"
    archive.write_bytes(b"PK" + content)
    with pytest.raises(ValueError, match="zip archive"):
        read_musicxml(archive)
    with pytest.raises(FileNotFoundError):
        read_musicxml(tmp_path / "none.xml")


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the folder ../shared/data/lieder_en")
def test_art_songs_are_read_whole() -> None:
    paths = sorted(SHARED.glob("*.mxl"))[::40]
    for path in paths:
        song = read_musicxml(path)
        assert song.melody.has_lyrics and song.backing and 20 < song.duration < 900
        assert len(list(song.melody.groups())) > 30


def test_syllables_of_grace_notes_are_sung_on_the_note_behind(tmp_path: Path) -> None:
    grace = "<note><grace/><pitch><step>B</step><octave>3</octave></pitch><lyric><text>oh</text>"
    grace += "</lyric></note>"
    path = write(tmp_path / "x.xml", measure(grace, note("C4", 4, "my"), head=FOUR))
    score = sing(read_musicxml(path).melody, Pronouncer()).score
    assert [(s.text, s.onset < s.offset) for s in score.syllables] == [("oh", True), ("my", True)]


@pytest.mark.parametrize(
    ("words", "bpm"), [("Allegro (♩ = 132)", 132), ("♪=c. 120", 60), ("slowly", None)]
)
def test_a_tempo_in_words_counts_and_none_is_said(
    tmp_path: Path, words: str, bpm: float | None
) -> None:
    text = f"<direction><direction-type><words>{words}</words></direction-type></direction>"
    melody = read_musicxml(
        write(tmp_path / "x.xml", measure(text, note("C4", 8, "la"), head=FOUR))
    ).melody
    assert melody.tempo.bpm_at(0.0) == pytest.approx(bpm or 100, rel=1e-5)
    assert any("no tempo is written" in remark for remark in melody.remarks) == (bpm is None)


def test_ties_lines_and_words_without_a_pitch(tmp_path: Path) -> None:
    tied = "|<notations><tied type='{}'/></notations>"
    rap = note("C4", 2, "rap").replace("pitch>", "unpitched>")
    path = write(
        tmp_path / "x.xml",
        measure(
            rap,
            note("D4", 2, "long", extra=tied.format("start")),
            note("D4", 2, extra=tied.format("stop")),
            note("E4", 2, "line").replace("</lyric>", "<end-line/></lyric>"),
            head=FOUR,
        ),
    )
    melody = read_musicxml(path).melody
    assert len(melody.notes) == 2 and melody.lyrics[1] and melody.lyrics[1].ends_line
    assert any("'rap'" in remark for remark in melody.remarks)


def test_the_content_says_what_is_an_archive(tmp_path: Path) -> None:
    plain = write(tmp_path / "x.mxl", measure(note("C4", 8, "la"), head=FOUR))
    archive = tmp_path / "x.musicxml"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(plain, "score.xml")
    assert sung(plain) == sung(archive) == [("la", 0)]
