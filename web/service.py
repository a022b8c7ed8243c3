"""What the page does: read files, plan, change a plan, sing it, and sing parts of a take again.

Each step calls what synthesis.py calls (`singing/`); here is only what a session adds: names,
bounds, and files that stay with the take that was made from them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from music.midi import write_midi
from music.score import LONGEST_MELODY, Melody
from singing.melody import BackingAudio, read_melody
from singing.plan import Plan, backing_of, harmony_data, make_plan
from singing.request import NONE, MelodyRequest, SongFiles, SongRequest
from singing.sing import open_request, sing_song
from singing.takes import TakesRequest, sing_takes
from text.frontend import Pronouncer
from text.lexicon import parse_phonemes
from text.lyrics import parse_lyrics, read_lyrics
from text.remarks import grouped
from transcription.take_judge import TakeJudge
from utils.checkpoint import load_facts, resolve
from utils.files import write_text
from web.choices import (
    LEXICON,
    LYRICS,
    MOST_LYRICS,
    PLAN,
    Again,
    Choice,
    RenderOptions,
    SessionFiles,
    lexicon_text,
    lexicon_word,
    regions_of,
    shell_arguments,
    shell_command,
    song_request,
)
from web.fields import Fields, optional_text, text
from web.plans import KnownBacking, SessionPlan, edited_melody, syllable_counts
from web.reports import take_report
from web.sessions import Session, SessionTake, Upload
from web.settings import MEL_INPAINTER, Settings, describe_runs, find_runs
from web.uploads import audio_suffix, score_suffix

INPUTS = "inputs"  # folder of a take with the texts that it was made from
MOST_PRONUNCIATIONS = 500


Prepared = tuple[str, Callable[[], SessionTake], Callable[[], None]]


class Service:
    """The steps of the page for any session."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def warm_up(self) -> None:
        """Read the dictionary, for which the first words would wait."""
        Pronouncer().is_known("song")

    # ------------------------------------------------------------------------ files in

    def take_accompaniment(self, session: Session, received: Path, name: str) -> dict[str, Any]:
        """Keep an accompaniment that was received; return its tempo, key and chords."""
        suffix = audio_suffix(received, name, self.settings.song_seconds)
        path = session.path(f"accompaniment-{session.next_number()}{suffix}")
        received.rename(path)
        request = replace(self._default_request(session), files=SongFiles(path))
        try:
            song = open_request(request, self._rate(request))
            harmony = self._backing(session, request, song.seconds).harmony()
        except ValueError as error:
            path.unlink(missing_ok=True)
            raise ValueError(str(error).replace(str(path), name)) from error
        about = {
            "name": name,
            "seconds": song.seconds,
            "sample_rate": song.info.sample_rate,
            "channels": song.info.channels,
            "remarks": [*song.remarks, *harmony.notes],
            "harmony": harmony_data(harmony, song.seconds),
        }
        session.put("accompaniment", Upload(path, name, about))
        session.plan = None
        return about

    def take_melody(self, session: Session, received: Path, name: str) -> dict[str, Any]:
        """Keep a melody file that was received; return what it holds."""
        path = session.path(f"melody-{session.next_number()}{score_suffix(received, name)}")
        received.rename(path)
        try:
            melody = read_melody(path)
        except ValueError as error:
            path.unlink(missing_ok=True)
            raise ValueError(str(error).replace(str(path), name)) from error
        about = {
            "name": name,
            "notes": len(melody.notes),
            "syllables": sum(lyric is not None for lyric in melody.lyrics),
            "seconds": melody.notes[-1].offset,
            "remarks": list(melody.remarks),
        }
        session.put("melody", Upload(path, name, about))
        return about

    def read_words(self, session: Session, fields: Fields) -> dict[str, Any]:
        """Return lines, syllables and guessed words of lyrics, and what of them is not sung."""
        path = session.path("lyrics-draft.txt")
        write_text(path, text(fields, "lyrics", MOST_LYRICS))
        try:
            lyrics = read_lyrics(path)
        except ValueError as error:
            raise ValueError(str(error).replace(f"{path}: ", "")) from error
        finally:
            path.unlink(missing_ok=True)
        lines = syllable_counts(lyrics, Pronouncer(self._files(session).text(LEXICON)))
        total = sum(line["syllables"] for line in lines)
        return {"lines": lines, "syllables": total, "remarks": grouped(lyrics.remarks)}

    def pronounce(self, session: Session, fields: Fields) -> dict[str, str]:
        """Write the pronunciation of a word into the session's lexicon; without phonemes, out."""
        word = lexicon_word(text(fields, "word", 100))
        written = optional_text(fields, "phonemes", 200)
        entries = dict(session.lexicon)
        entries.pop(word, None)
        if written is not None:
            entries[word] = " ".join(parse_phonemes(written, word))
        if len(entries) > MOST_PRONUNCIATIONS:
            raise ValueError(f"more than {MOST_PRONUNCIATIONS} pronunciations; use a lexicon file")
        path = session.path(f".{LEXICON}.new")
        write_text(path, lexicon_text(entries))
        try:
            Pronouncer(path)
        except ValueError as error:
            raise ValueError(str(error).replace(str(path), "pronunciation")) from error
        finally:
            path.unlink(missing_ok=True)
        session.lexicon = entries
        if entries:
            write_text(session.path(LEXICON), lexicon_text(entries))
        else:
            session.path(LEXICON).unlink(missing_ok=True)
        return entries

    # ------------------------------------------------------------------------ plan

    def plan(self, session: Session, fields: Fields) -> dict[str, Any]:
        """Compose or read the melody that is asked for, without a sound."""
        choice = Choice.of(fields)
        write_text(session.path(LYRICS), choice.lyrics)
        request = self._request(session, fields, choice)
        if choice.melody == NONE:
            request.melody.check_spoken()
            if not request.lyrics:
                raise ValueError("there are no words to speak: write them under 1")
            session.path(PLAN).unlink(missing_ok=True)
            session.plan = SessionPlan(choice, None, getattr(request.lyrics, "remarks", ()))
        else:
            made = self._make_plan(session, request)
            melody = Melody.of(made.score)
            self._keep(session, fields, choice, melody, made.remarks, is_edited=False)
        return self.shown_plan(session)

    def change(self, session: Session, fields: Fields) -> dict[str, Any]:
        """Take in the notes and words as they were changed on the page."""
        plan, entries = session.plan, fields.get("notes")
        if plan is None or plan.made is None:
            raise ValueError("there is no melody to change yet: compose one")
        if not isinstance(entries, list):
            raise ValueError("notes: expected a list")
        score = plan.made.score
        upload = session.uploads.get("accompaniment")
        seconds = upload.about["seconds"] if upload else LONGEST_MELODY
        melody, repairs = edited_melody(
            entries, score.tempo, score.meters, seconds, self.settings.most_notes
        )
        self._keep(session, fields, plan.choice, melody, tuple(repairs), is_edited=True)
        return self.shown_plan(session)

    def shown_plan(self, session: Session) -> dict[str, Any]:
        """Describe the plan of a session for the page."""
        if session.plan is None:
            raise ValueError("there is no plan yet: compose a melody")
        return session.plan.report()

    def _keep(
        self,
        session: Session,
        fields: Fields,
        choice: Choice,
        melody: Melody,
        remarks: tuple[str, ...],
        is_edited: bool,
    ) -> None:
        """Write a melody as PLAN, and show what is read from there: that is what is sung."""
        path = session.path(f"new-{PLAN}")
        write_midi(melody, path)
        try:
            request = self._request(session, fields, choice, planned=True)
            request = replace(request, melody=MelodyRequest(str(path)))
            made = self._make_plan(session, request)
            path.replace(session.path(PLAN))
        except ValueError as error:
            raise ValueError(str(error).replace(f"{path}: ", "")) from error
        finally:
            path.unlink(missing_ok=True)
        remarks = tuple(dict.fromkeys((*remarks, *made.remarks)))
        session.plan = SessionPlan(choice, made, remarks, is_edited)

    def _make_plan(self, session: Session, request: SongRequest) -> Plan:
        """Make the plan of a request, on the harmony that is known."""
        upload = session.uploads.get("accompaniment")
        if upload is None:
            return make_plan(request)
        return make_plan(request, self._backing(session, request, upload.about["seconds"]))

    # ------------------------------------------------------------------------ sing

    def prepare(self, session: Session, fields: Fields) -> Prepared:
        """Check what is to be sung; return its title, the work, and what undoes this check."""
        plan = session.plan
        if plan is None:
            raise ValueError("there is no plan yet: compose a melody")
        runs = self.runs()
        manner = RenderOptions.of(fields, runs)
        again, accompaniment = None, session.uploads.get("accompaniment")
        if fields.get("regions"):
            again, before = self._again(session, fields)
            accompaniment = before.accompaniment
        number = session.next_take()
        folder = session.path(f"take-{number:03d}")
        planned = plan.made is not None

        def discard() -> None:
            shutil.rmtree(folder, ignore_errors=True)

        files = self._snapshot(session, folder / INPUTS, again, accompaniment)
        try:
            request = song_request(plan.choice, manner, files, runs, folder, planned, again)
            arguments = shell_arguments(
                plan.choice, manner, files, runs, "out/song", planned, again
            )
        except ValueError:
            discard()
            raise
        title = f"{again.ranges} s of take {again.take}" if again else "the whole song"

        def work() -> SessionTake:
            try:
                paths, remarks = self._sung(request, manner.takes)
            except BaseException:
                discard()
                raise
            about = take_report(folder, again, request.seed, title, shell_command(arguments))
            about["remarks"] = grouped(remarks)
            names = tuple(path.name for path in paths)
            take = SessionTake(number, folder, names, accompaniment, plan, about)
            session.add_take(take, self.settings.most_takes)
            return take

        return title, work, discard

    def _sung(self, request: SongRequest, takes: int) -> tuple[list[Path], list[str]]:
        """Sing a request, or the best of several takes of it."""
        device = self.settings.device
        if takes == 1:
            return sing_song(request, device)
        judge = TakeJudge.load(self.settings.demo / "transcriber.pt", device)
        return sing_takes(request, TakesRequest(takes), device, judge)

    def _again(self, session: Session, fields: Fields) -> tuple[Again, SessionTake]:
        """Return the parts of a take that are to be sung again, and that take."""
        take = session.take(fields.get("take"))
        if "vocal.wav" not in take.names or take.accompaniment is None:
            raise ValueError("spoken lyrics have no parts to sing again: give an accompaniment")
        regions = regions_of(fields, take.about["seconds"])
        words = optional_text(fields, "words", MOST_LYRICS)
        return Again(take.number, take.folder / "vocal.wav", regions, words), take

    def _snapshot(
        self, session: Session, folder: Path, again: Again | None, accompaniment: Upload | None
    ) -> SessionFiles:
        """Copy the texts that a take is made from: the session's may change meanwhile."""
        folder.mkdir(parents=True)
        for name in (LYRICS, PLAN, LEXICON):
            if session.path(name).is_file():
                shutil.copyfile(session.path(name), folder / name)
        if again is not None and again.words:
            write_text(folder / LYRICS, again.words)
        return replace(
            self._files(session),
            folder=folder,
            accompaniment=None if accompaniment is None else accompaniment.path,
        )

    def shown_takes(self, session: Session) -> list[dict[str, Any]]:
        """Describe the takes of a session, the newest first."""
        return [
            {
                "number": take.number,
                "files": list(take.names),
                "inputs": sorted(path.name for path in (take.folder / INPUTS).glob("*")),
                "accompaniment": take.accompaniment and take.accompaniment.name,
                **take.about,
            }
            for take in reversed(session.takes)
        ]

    def file_of_take(self, session: Session, number: int, name: str) -> Path:
        """Return a file of a take; ValueError for any name that was not written."""
        take = session.take(number)
        for folder, names in (
            (take.folder, take.names),
            (take.folder / INPUTS, (LYRICS, PLAN, LEXICON)),
        ):
            if name in names and (folder / name).is_file():
                return folder / name
        if name == "accompaniment" and take.accompaniment is not None:
            return take.accompaniment.path
        raise ValueError(f"take {number} has no such file")

    # ------------------------------------------------------------------------ helpers

    def runs(self) -> dict[str, dict[str, Path]]:
        """Return the checkpoints that can be chosen now."""
        return find_runs(self.settings)

    def shown_runs(self) -> dict[str, list[dict[str, object]]]:
        """Describe the checkpoints for the page."""
        return describe_runs(self.runs())

    def _request(
        self, session: Session, fields: Fields, choice: Choice, planned: bool = False
    ) -> SongRequest:
        """Return the request of a plan; networks as the page sends them."""
        runs = self.runs()
        manner = replace(RenderOptions.of({**fields, "seed": 0}, runs), seed=choice.seed)
        files = self._files(session)
        return song_request(choice, manner, files, runs, session.path("plan"), planned)

    def _default_request(self, session: Session) -> SongRequest:
        """Return a request for the first checkpoint of each kind."""
        runs = self.runs()
        manner = RenderOptions.of({}, runs)
        return SongRequest(
            session.path("plan"),
            runs["transformer"][manner.transformer],
            runs["postnet"][manner.postnet],
            runs["inpainter"].get(manner.inpainter),
            runs[MEL_INPAINTER].get(manner.mel_inpainter),
            lyrics=parse_lyrics("la"),
        )

    def _rate(self, request: SongRequest) -> int:
        """Return the sample rate of the voice of a request."""
        facts = load_facts(resolve(request.transformer, "transformer"), "transformer")
        return facts.hyperparams.audio.sample_rate

    def _backing(self, session: Session, request: SongRequest, seconds: float) -> KnownBacking:
        """Return the accompaniment of a request, with the harmonies that are known of it."""
        assert request.files is not None, "there is an accompaniment"

        def opened() -> BackingAudio:
            return backing_of(request, self._rate(request))

        key = (request.files.accompaniment, request.inpainter)
        return KnownBacking(
            np.zeros(0), 0, seconds, open=opened, harmonies=session.harmonies, key=key
        )

    def _files(self, session: Session) -> SessionFiles:
        """Return the files of a session as they stand."""
        paths = {kind: upload.path for kind, upload in session.uploads.items()}
        names = {upload.path: upload.name for upload in session.uploads.values()}
        return SessionFiles(session.folder, paths.get("accompaniment"), paths.get("melody"), names)
