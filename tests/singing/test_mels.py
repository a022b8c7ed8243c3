"""The inpainter on mels in the chain, from the command line: words, no words, gaps, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tiny import FILE, TINY
from tiny_chain import Run, integers, music, save, write

import synthesis
from music.midi import write_midi
from music.midi_tracks import read_midi
from music.score import Lyric, Melody, Note, TempoMap
from singing.hearing import TakeTranscript
from singing.mels import InpaintedMel, MelInpainter, MelTracks, frame_mask, frames_touching
from singing.takes import WEIGHTS
from singing.wordless import LONGEST_PIECE, pieces_of
from text.symbols import SYMBOLS
from transcription.network import TranscriberNet
from transcription.take_judge import TakeJudge
from utils import config
from utils.loading import build_unet, load_network

HP = config.build("mel", FILE, (), config.presets())
BANDS, HOP = HP.audio.n_mels, HP.audio.hop_length
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
QUICK = ("--set", "mel_inpainting.num_steps=2", "--set", "mel_inpainting.draft_steps=2")
APART = ("--set", "mel_inpainting.overlap=0")  # half as many windows
QUICK = (*QUICK, "--set", "synthesis.griffin_lim_iterations=2")


def data_of(**changes: Any) -> dict[str, Any]:
    statistics = {
        name: {"mean": [mean] * BANDS, "std": [2.0] * BANDS}
        for name, mean in (("mel", -5.0), ("accompaniment_mel", -4.0))
    }
    statistics |= {"vocal": 0.1, "accompaniment": 0.1}
    parts = ["mel", "phoneme", "pitch", "voicing"]
    return {"context": parts, "loudness": -18.0, "statistics": statistics, **changes}


@pytest.fixture(scope="module")
def mel_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny inpainters on mels with random weights, one of them of another table of symbols."""
    folder = tmp_path_factory.mktemp("mels")
    torch.manual_seed(0)
    network = build_unet(HP, len(SYMBOLS))
    for parameter in network.parameters():
        if not parameter.detach().any():  # what starts at zero would hide the input
            torch.nn.init.normal_(parameter, std=0.1)
    save(folder / "mel.pt", "inpainter", network, HP, **data_of())
    other = [f"x{symbol}" for symbol in SYMBOLS]
    save(folder / "symbols.pt", "inpainter", network, HP, **data_of(symbols=other))
    return folder


@pytest.fixture
def restore(
    run: Run, weights: Path, mel_weights: Path, tmp_path: Path
) -> Callable[..., dict[str, Any]]:
    """A song with the mel inpainter, without the one of audio, that must succeed: its report."""

    def call(*flags: object, out: str = "out") -> dict[str, Any]:
        common = ("--checkpoint", weights / "singer.pt", "--inpainter", "none", *QUICK)
        mel = ("--mel-inpainter", mel_weights / "mel.pt")
        assert run(*common, *mel, *flags, out=out) == 0
        return json.loads((tmp_path / out / "report.json").read_text())

    return call


@pytest.fixture
def tune(tmp_path: Path) -> Callable[..., Path]:
    """A MIDI file of three notes, with or without words."""

    def make(*words: str) -> Path:
        notes = tuple(Note(60 + 2 * i, 0.5 + 0.4 * i, 0.85 + 0.4 * i) for i in range(3))
        lyrics = tuple(Lyric(word) for word in words) or (None,) * 3
        path = tmp_path / f"tune{len(words)}.mid"
        write_midi(Melody(notes, lyrics, TempoMap.constant(150.0)), path)
        return path

    return make


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return write(tmp_path / "song.wav", music(2.0))


@pytest.fixture
def words_over_song(tune: Callable[..., Path], song: Path) -> tuple[object, ...]:
    """Flags of three words on their notes, over an accompaniment."""
    return ("--accompaniment", song, "--melody", tune("oh", "my", "oh"))


def draft_of(folder: Path) -> np.ndarray:
    return integers(folder / "draft.wav")[:, 0] / 2.0**31


# ---------------------------------------------------------------------------- the stage


@pytest.fixture
def stage(mel_weights: Path) -> MelInpainter:
    loaded = load_network(mel_weights / "mel.pt", "inpainter", torch.device("cpu"))
    few = ["mel_inpainting.num_steps=2", "mel_inpainting.draft_steps=3"]
    loaded.hyperparams = config.build("own", None, few, {"own": loaded.hyperparams})
    return MelInpainter(loaded)


def random_wav(seconds: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(round(16000 * seconds), generator=generator)


def test_known_frames_stay_bit_by_bit_and_no_frame_hears_the_gap(stage: MelInpainter) -> None:
    vocal, frames = random_wav(1.6), 100
    span = (6000, 11000)
    ranges = frames_touching([span], HOP, HP.audio.win_length, frames)
    made = stage(MelTracks(), frames, random_wav(1.6, 1), vocal, ranges)
    is_new = frame_mask(ranges, frames)
    assert torch.equal(made.mel[~is_new], stage.mel_of(vocal, frames)[~is_new])
    assert not torch.allclose(made.mel[is_new], stage.mel_of(vocal, frames)[is_new])
    changed = vocal.clone()
    changed[span[0] : span[1]] += random_wav(5000 / 16000, 2)
    is_same = (stage.mel_of(changed, frames) == stage.mel_of(vocal, frames)).all(1)
    assert torch.equal(is_same, ~is_new)  # these frames, no more and no fewer, hear the part
    again = stage(MelTracks(), frames, random_wav(1.6, 1), changed, ranges)
    assert torch.equal(again.mel[~is_new], made.mel[~is_new])
    assert torch.equal(again.mel[is_new], made.mel[is_new])  # nothing of what was there leaks


def test_blocks_of_mels_are_those_of_the_whole(
    stage: MelInpainter, monkeypatch: pytest.MonkeyPatch
) -> None:
    wav = random_wav(1.7)
    whole = stage.mel_of(wav, 110)
    monkeypatch.setattr("singing.mels.BLOCK", 13)
    torch.testing.assert_close(stage.mel_of(wav, 110), whole, atol=1e-4, rtol=1e-4)


def test_what_is_told_is_heard_and_nothing_else(stage: MelInpainter) -> None:
    backing, frames = random_wav(0.6), 37
    zeros = torch.zeros(frames, dtype=torch.int64)

    def mel(**tracks: torch.Tensor) -> InpaintedMel:
        return stage(MelTracks(**tracks), frames, backing)

    plain = mel()
    assert plain.conditions == () and torch.isfinite(plain.mel).all()
    for name in ("phoneme", "pitch"):
        told = mel(**{name: zeros + 5})
        assert told.conditions == (name,) and not torch.allclose(told.mel, plain.mel)
    draft = mel(draft=torch.full((frames, BANDS), -3.0))
    assert not torch.allclose(draft.mel, plain.mel)
    assert draft.evaluations == 3 * draft.windows and plain.evaluations == 2 * plain.windows
    other = stage(MelTracks(), frames, random_wav(0.6, 7))
    assert not torch.allclose(other.mel, plain.mel)
    alone, quiet = stage(MelTracks(), frames), stage(MelTracks(), frames, torch.zeros(9000))
    assert not torch.allclose(alone.mel, quiet.mel)  # withheld is not silent


def test_a_temperature_of_nothing_draws_nothing(stage: MelInpainter) -> None:
    frames = 40
    stage.hyperparams = config.build(
        "own", None, ["mel_inpainting.draft_temperature=0"], {"own": stage.hyperparams}
    )
    draft = MelTracks(torch.full((frames, BANDS), -3.0))
    first, second = (stage(draft, frames, seed=seed).mel for seed in (0, 1))
    assert torch.equal(first, second)
    first, second = (stage(MelTracks(), frames, seed=seed).mel for seed in (0, 1))
    assert not torch.equal(first, second)  # without a draft the other temperature counts


def test_pieces_are_cut_where_it_is_quiet() -> None:
    mel = torch.zeros(3000, BANDS)
    mel[1300], mel[2500] = -5.0, -5.0
    pieces = pieces_of(mel, [(100, 3000), (20, 50)])
    assert pieces == [(20, 50), (100, 1300), (1300, 2500), (2500, 3000)]
    assert max(stop - start for start, stop in pieces) <= LONGEST_PIECE


# ---------------------------------------------------------------------------- words


@pytest.mark.usefixtures("no_picture")
def test_takes_are_judged_as_they_will_be_sung(
    restore: Callable[..., Any],
    words_over_song: tuple[object, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Restored, not as the transformer leaves them: the judge hears what is written."""
    judge = tmp_path / "judge.pt"
    save(judge, "transcriber", TranscriberNet(TINY.transcriber, TINY.audio.sample_rate), TINY)
    heard: list[torch.Tensor] = []

    def score(self: TakeJudge, rendered: Any, sample_rate: int) -> dict[str, float]:
        heard.append(rendered.wav)
        return dict.fromkeys(WEIGHTS, float(len(heard)))

    monkeypatch.setattr(TakeJudge, "__call__", score)
    flags = (*words_over_song, "--transcriber", judge)
    report = restore(*flags, "--takes", 2)
    assert report["phrase_seeds"] == [1] and len(heard) == 2
    start = round(report["lines"][0]["start"] * 16000)
    inner = slice(512, len(heard[1]) - 512)  # without the fades
    written = torch.from_numpy(draft_of(tmp_path / "out"))[start:][: len(heard[1])]
    assert torch.allclose(written[inner].float(), heard[1][inner], atol=2e-3)


@pytest.mark.usefixtures("no_picture")
def test_words_are_restored_and_none_is_the_chain_without(
    restore: Callable[..., Any],
    run: Run,
    weights: Path,
    words_over_song: tuple[object, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = restore(*words_over_song)
    assert report["mel_inpainter"]["step"] == 3 and report["mel_inpainting"]["draft_steps"] == 2
    assert report["mel"]["conditions"] == ["mel", "phoneme", "pitch"]
    assert report["mel"]["network_evaluations"] == 2 * report["mel"]["windows"]
    assert len(report["lines"]) == 1 and report["lines"][0]["text"] == "oh my oh"
    restored = draft_of(tmp_path / "out")
    again = restore(*words_over_song, "--set", "mel_inpainting.batch_size=1", out="single")
    assert again["mel"]["windows"] == report["mel"]["windows"] > 1
    assert np.abs(draft_of(tmp_path / "single") - restored).max() < 1e-3
    restore(*words_over_song, "--mel-inpainter", "none", out="none")
    capsys.readouterr()
    monkeypatch.setattr(synthesis, "MEL_INPAINTER", tmp_path / "nowhere.pt")
    common = ("--inpainter", "none", *QUICK, "--checkpoint", weights / "singer.pt")
    on = ("--set", "synthesis.restore=true")
    assert run(*common, *words_over_song, *on, out="plain") == 0
    assert "no inpainter on mels" in capsys.readouterr().err
    names = ("draft.wav", "vocal.wav", "mix.wav")
    for name in names:  # what is not there changes nothing
        assert (tmp_path / "none" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    assert not np.allclose(draft_of(tmp_path / "none"), restored, atol=1e-3)
    monkeypatch.setattr(synthesis, "MEL_INPAINTER", Path(report["mel_inpainter"]["path"]))
    off = ("--set", "synthesis.restore=false")
    assert run(*common, *words_over_song, *off, out="off") == 0  # not chosen: the knob counts
    assert "mel inpainter" not in capsys.readouterr().err
    for name in names:
        assert (tmp_path / "off" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()


@pytest.mark.usefixtures("no_picture")
def test_a_melody_alone_is_restored_without_an_accompaniment(
    restore: Callable[..., Any], tune: Callable[..., Path], tmp_path: Path
) -> None:
    flags = ("--melody", tune("oh", "my", "oh"))
    report = restore(*flags)
    assert report["mel"]["conditions"] == ["mel", "phoneme", "pitch"]
    assert restore(*flags, "--mel-inpainter", "none", out="plain")["mel"] is None
    sung, plain = (integers(tmp_path / name / "vocal.wav") for name in ("out", "plain"))
    assert sung.shape == plain.shape and not np.array_equal(sung, plain)


# ---------------------------------------------------------------------------- no words


@pytest.mark.usefixtures("no_picture")
def test_an_accompaniment_alone_gets_a_melody_that_is_sung(
    restore: Callable[..., Any], tmp_path: Path
) -> None:
    wav, rate = soundfile.read(EXAMPLES / "evening-sun.ogg", frames=10 * 22050)
    backing = write(tmp_path / "song.wav", wav, rate)
    flags = ("--accompaniment", backing, "--range", "A3-A4", *APART)
    report = restore(*flags)
    out = tmp_path / "out"
    sung = read_midi(out / "topline.mid")
    assert report["melody"]["source"] == "compose" and report["melody"]["words"] is False
    assert report["melody"]["notes"] == len(sung.notes) > 4
    assert all(57 <= note.pitch <= 69 for note in sung.notes)
    assert report["mel"]["conditions"] == ["phoneme", "pitch"]
    assert {lyric.text for lyric in sung.lyrics if lyric} == {"la"}
    assert len(integers(out / "vocal.wav")) == len(integers(backing))
    assert draft_of(out).std() > 0 and "transformer" not in report
    assert report["postnet"]["step"] == 3

    silent = ("--set", "synthesis.vocalise=none")
    report = restore(*flags, *silent, out="notes")
    assert report["mel"]["conditions"] == ["pitch"]
    report = restore(*flags, "--melody", "none", out="own")
    assert report["mel"]["conditions"] == [] and report["melody"]["source"] == "none"
    assert not (tmp_path / "own" / "topline.mid").exists()
    drafts = [draft_of(tmp_path / name) for name in ("out", "notes", "own")]
    assert not np.array_equal(drafts[0], drafts[1]) and not np.array_equal(drafts[1], drafts[2])


@pytest.mark.usefixtures("no_picture")
def test_what_ships_sings_unasked_where_it_finds_its_own_notes(
    run: Run,
    weights: Path,
    mel_weights: Path,
    tune: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the voice sings; with `--mel-inpainter none` always."""
    monkeypatch.setattr(synthesis, "MEL_INPAINTER", mel_weights / "mel.pt")
    monkeypatch.setattr(synthesis, "listener", lambda *_: fake_heard)
    song = write(tmp_path / "song.wav", music(5.0))
    common = ("--accompaniment", song, "--checkpoint", weights / "singer.pt", *QUICK)
    common = (*common, "--inpainter", "none")
    take = ("--vocal", write(tmp_path / "take.wav", 0.5 * music(1.5, hertz=330.0)))

    def sung(*flags: object) -> tuple[str, str]:
        """Whose the draft is, and the source of its notes."""
        assert run(*common, *flags) == 0
        report = json.loads((tmp_path / "out" / "report.json").read_text())
        who = [name for name in ("mel_inpainter", "transformer") if report.get(name)]
        return who[0], report["melody"]["source"]

    assert sung("--melody", "none") == ("mel_inpainter", "none")
    assert sung(*take, "--extend", 0.5, "--melody", "none") == ("mel_inpainter", "none")
    assert sung(*take, "--extend", 0.5)[0] == "transformer"
    assert sung("--melody", tune())[0] == "transformer"
    assert sung(*take, "--inpaint", "0.6-1.0") == ("transformer", "heard")
    assert sung(*take, "--inpaint", "1.2-1.5", "--extend", 0.4)[0] == "transformer"
    assert sung("--lyrics", "oh my oh", "--melody", tune())[0] == "transformer"
    off = ("--mel-inpainter", "none")
    assert run(*common, "--melody", "none", *off) == 2


@pytest.mark.usefixtures("no_picture")
def test_without_beats_it_finds_its_own_notes_and_says_so(
    restore: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = restore("--accompaniment", write(tmp_path / "song.wav", music(0.6)))
    assert report["melody"]["source"] == "none" and report["mel"]["conditions"] == []
    assert "finds its own" in " ".join(capsys.readouterr().out.split())


@pytest.mark.usefixtures("no_picture")
def test_a_melody_without_words_is_sung_without(
    restore: Callable[..., Any], run: Run, tune: Callable[..., Path], song: Path, tmp_path: Path
) -> None:
    flags = ("--accompaniment", song, "--melody", tune())
    report = restore(*flags)
    assert report["melody"]["notes"] == 3 and report["mel"]["conditions"] == ["phoneme", "pitch"]
    kept = read_midi(tmp_path / "out" / "topline.mid")
    assert [note.pitch for note in kept.notes] == [60, 62, 64]
    report = restore(*flags, "--transpose", 3, out="higher")
    assert report["melody"]["lowest"] == 63
    silent = ("--set", "synthesis.vocalise=none")  # and no inpainter that would choose
    assert run(*flags, "--mel-inpainter", "none", *silent, out="none") == 2


@pytest.mark.usefixtures("no_picture")
def test_the_waveform_stage_makes_the_vocal_of_a_wordless_draft(
    run: Run,
    weights: Path,
    mel_weights: Path,
    tune: Callable[..., Path],
    song: Path,
    tmp_path: Path,
) -> None:
    flags = ("--accompaniment", song, "--melody", tune(), *QUICK, "--steps", 2)
    flags = (*flags, "--mel-inpainter", mel_weights / "mel.pt")
    assert run(*flags, "--inpainter", weights / "shaped.pt") == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["windows"] > 1 and report["mel"]["windows"] > 1
    vocal, draft = (integers(tmp_path / "out" / f"{n}.wav")[:, 0] for n in ("vocal", "draft"))
    assert np.corrcoef(vocal, draft)[0, 1] > 0.5  # it keeps its share of the draft


# ---------------------------------------------------------------------------- takes


def fake_heard(wav: torch.Tensor, rate: int) -> TakeTranscript:
    """One note of 67.3 from 0.2 s on, on AA."""
    frames = 1 + len(wav) // 320
    return TakeTranscript(
        ((0.2, len(wav) / rate, 67.3),), ("",) * 10 + ("AA1",) * (frames - 10), 0.02
    )


@pytest.mark.usefixtures("no_picture")
def test_a_part_of_a_take_is_sung_again_as_it_is_heard(
    restore: Callable[..., Any],
    tune: Callable[..., Path],
    song: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(synthesis, "listener", lambda *_: fake_heard)
    take = write(tmp_path / "take.wav", 0.5 * music(1.5, hertz=330.0))
    flags = ("--accompaniment", song, "--vocal", take)
    report = restore(*flags, "--inpaint", "0.6-1.0")
    assert report["melody"]["source"] == "heard" and report["melody"]["lowest"] == 67
    assert report["mel"]["conditions"] == ["phoneme", "pitch"]
    assert "1 notes there, and the sounds AA" in " ".join(capsys.readouterr().out.split())
    old, new = integers(take), integers(tmp_path / "out" / "vocal.wav")
    assert np.array_equal(old[:9600], new[:9600]) and np.array_equal(old[16000:], new[16000:])
    assert (old != new)[9600:16000].mean() > 0.9

    report = restore(*flags, "--inpaint", "0.6-1.0", "--melody", tune(), out="tune")
    assert report["melody"]["source"].endswith("tune0.mid") and report["melody"]["notes"] == 1
    report = restore(*flags, "--inpaint", "1.2-1.5", "--extend", 0.4, out="on")
    assert report["melody"]["source"] == "heard, none" and report["generated"] == [[1.2, 1.9]]
    new = integers(tmp_path / "on" / "vocal.wav")
    assert len(new) == len(old) + 6400 and np.array_equal(old[:19200], new[:19200])
    assert new[len(old) :].any()
    monkeypatch.setattr(synthesis, "listener", lambda *_: None)
    report = restore(*flags, "--inpaint", "0.6-1.0", out="deaf")
    assert report["melody"]["source"] == "none" and report["mel"]["conditions"] == []
    assert "nobody listens" in " ".join(capsys.readouterr().out.split())


@pytest.mark.usefixtures("no_picture")
def test_a_take_is_continued_in_its_range(
    restore: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    notes = tuple((0.5 * i, 0.5 * i + 0.4, 70.0 + i % 3) for i in range(8))
    heard = TakeTranscript(notes, ("AA1",) * 250, 0.02)
    monkeypatch.setattr(synthesis, "listener", lambda *_: lambda *_: heard)
    wav, rate = soundfile.read(EXAMPLES / "evening-sun.ogg", frames=12 * 22050)
    backing = write(tmp_path / "song.wav", wav, rate)
    take = write(tmp_path / "take.wav", 0.5 * music(5.0, hertz=330.0))
    flags = ("--accompaniment", backing, "--vocal", take, "--extend", 6)
    report = restore(*flags, *APART)
    assert report["melody"]["source"] == "compose" and report["melody"]["notes"] > 2
    said = " ".join(capsys.readouterr().out.split())
    assert "the take is sung on MIDI 67 to 75, 1.03 notes a beat" in said
    assert 66 <= report["melody"]["lowest"] <= report["melody"]["highest"] <= 75
    sung = read_midi(tmp_path / "out" / "topline.mid")
    assert all(note.onset >= 4.99 for note in sung.notes)
    old, new = integers(take), integers(tmp_path / "out" / "vocal.wav")
    assert np.array_equal(old, new[: len(old)])
    report = restore(*flags, "--melody", "none", out="own")
    assert report["melody"]["source"] == "none" and report["mel"]["conditions"] == []
    assert np.array_equal(old, integers(tmp_path / "own" / "vocal.wav")[: len(old)])
    words = ("--lyrics", "come home to me")
    restore(*flags, *words, out="words")
    sung = read_midi(tmp_path / "words" / "topline.mid")
    assert "".join(lyric.text for lyric in sung.lyrics if lyric) == "comehometome"
    assert all(4.99 <= note.onset <= 11 and 67 <= note.pitch <= 75 for note in sung.notes)


@pytest.mark.usefixtures("no_picture")
def test_new_words_are_sung_on_the_notes_that_are_heard(
    restore: Callable[..., Any], song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthesis, "listener", lambda *_: fake_heard)
    take = write(tmp_path / "take.wav", 0.5 * music(1.5, hertz=330.0))
    flags = ("--accompaniment", song, "--vocal", take, "--inpaint", "0.6-1.2", "--lyrics", "oh")
    report = restore(*flags)
    assert report["melody"]["source"] == "heard" and report["melody"]["lowest"] == 67
    assert report["mel"]["conditions"] == ["mel", "phoneme", "pitch"]
    sung = read_midi(tmp_path / "out" / "topline.mid")
    assert [lyric.text for lyric in sung.lyrics if lyric] == ["oh"]
    assert sung.notes[0].onset == pytest.approx(0.6, abs=0.01)
    old, new = integers(take), integers(tmp_path / "out" / "vocal.wav")
    assert np.array_equal(old[:9600], new[:9600]) and np.array_equal(old[19200:], new[19200:])
    assert (old != new)[9600:19200].mean() > 0.9
    report = restore(*flags, "--melody", "none", out="spoken")
    assert report["melody"] == {"source": "none"} and report["mel"] is None
    monkeypatch.setattr(
        synthesis, "listener", lambda *_: lambda *_: TakeTranscript((), ("",) * 9, 0.02)
    )
    assert restore(*flags, out="deaf")["melody"] == {"source": "none"}


def test_the_transcriber_that_ships_listens_to_a_take(
    restore: Callable[..., Any], song: Path, tmp_path: Path, no_picture: None
) -> None:
    if not synthesis.TRANSCRIBER.exists():
        pytest.skip(f"{synthesis.TRANSCRIBER} is not there")
    del no_picture
    take = write(tmp_path / "take.wav", 0.5 * music(1.5, hertz=330.0))
    report = restore("--accompaniment", song, "--vocal", take, "--inpaint", "0.6-1.0")
    assert report["melody"]["source"] in ("heard", "none")  # a chord is no singer
    assert report["melody"]["remarks"]


# ---------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--mel-inpainter", "symbols.pt"], ["symbols.pt", "does not know the symbols"]),
        (["--mel-inpainter", "inpainter.pt"], ["inpainter.pt", "expected one of mels"]),
        (["--mel-inpainter", "rate.pt"], ["rate.pt", "audio.hop_length is 256 and 128"]),
        (["--mel-inpainter", "nowhere"], ["nowhere", "no inpainter checkpoint"]),
        (["--inpainter", "mel.pt"], ["mel.pt", "--mel-inpainter"]),
        (["--set", "mel_inpainting.draft_start=0.01"], ["draft_start", "sigma_min"]),
        (["--set", "mel_inpainting.temperature=-1"], ["temperature", "0 or more"]),
        (["--set", "mel_inpainting.step=magic"], ["dpmpp_2m"]),
    ],
)
def test_what_does_not_go_together_is_refused(
    run: Run,
    weights: Path,
    mel_weights: Path,
    words_over_song: tuple[object, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (*mel_weights.iterdir(), weights / "inpainter.pt"):
        (tmp_path / path.name).symlink_to(path)
    hp = config.build("own", None, ["audio.hop_length=128"], {"own": HP})
    save(tmp_path / "rate.pt", "inpainter", build_unet(hp, len(SYMBOLS)), hp, **data_of())
    common = ("--mel-inpainter", "mel.pt", "--inpainter", "none")
    assert run("--checkpoint", weights / "singer.pt", *common, *words_over_song, *flags) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
    assert not (tmp_path / "out").exists()
