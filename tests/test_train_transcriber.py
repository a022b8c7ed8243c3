"""train_transcriber.py and evaluate.py transcribe as a user runs them, at tiny size."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile
import torch
from no_waiting import META, assert_unread, take_steps
from tiny import TINY, TINY_FLAGS
from tiny_corpora import RATE, SUNG, add_scores, stem_corpus

import evaluate
import prepare_data
import train_transcriber
from corpora.phoneme_times import write_phoneme_times
from corpora.spoken_windows import SpokenWindows
from corpora.stores import FeatureStore
from evaluation import table
from evaluation import transcriber as evaluation_transcriber
from evaluation.transcriber import (
    METRICS,
    ROWS,
    SungSong,
    judge_transcriber,
    transcription_scores,
)
from preprocess import StemStore
from train_transcriber import TranscriberExperiment
from training.experiment import seeded_context
from transcription.labels import PHONEME_CLASSES, SILENCE, phoneme_class
from transcription.network import Transcription
from transcription.note_decoding import TranscribedNote
from transcription.transcribe import Transcribed, build_transcriber, load_transcriber, transcribe
from utils import checkpoint, config
from utils.audio import read_wav
from utils.loading import Loaded

torch.set_num_threads(1)
HP = TINY


@pytest.fixture
def feature_dir(tmp_path: Path) -> Path:
    """Six songs of two notes over a drone, prepared as corpus `x`, with their score."""
    songs = stem_corpus(tmp_path / "songs", 6)
    where = ["--feature-dir", str(tmp_path / "feature"), "--workers", "0"]
    shares = ["--validation-share", "0.3", "--test-share", "0.2"]
    assert prepare_data.main(["stems", str(songs), "--name", "x", *shares, *where]) == 0
    add_scores(tmp_path / "feature" / "x")
    return tmp_path / "feature"


@pytest.fixture
def experiment(feature_dir: Path) -> TranscriberExperiment:
    return TranscriberExperiment(HP, StemStore(feature_dir / "x"), torch.device("cpu"))


@pytest.mark.parametrize("share", ["0.0", "0.5"])
def test_a_step_reads_nothing_from_its_device(
    share: str, feature_dir: Path, tmp_path: Path
) -> None:
    """Also where half of the vocals are speech, which counts for no note."""
    knobs = ("transcriber_training.ema_decay=0.9", f"transcriber.speech_share={share}")
    hp = config.build("t", None, knobs, {"t": HP})
    experiment = TranscriberExperiment(hp, StemStore(feature_dir / "x"), META, NoiseAsSpeech())
    assert_unread(take_steps(experiment, tmp_path / "run", 2), 2)


class NoiseAsSpeech:
    """Windows of noise, said to be spoken."""

    name, items = "noise", (0,)

    def scored(self) -> list[dict]:
        return [{"id": "noise", "symbols": ["S", "IY1", "AA1"], "score": {**SUNG, "notes": []}}]

    def window(self, number: int, place: float, samples: int) -> tuple[str, int, torch.Tensor]:
        return "noise", 0, torch.randn(samples)


def test_sung_times_replace_the_slots_of_the_score(feature_dir: Path) -> None:
    """Where it is known when a phoneme is sung, that is what frames are asked for."""
    store = StemStore(feature_dir / "x")
    id = store.index["items"][0]["id"]
    times = {"onset": [0.1, 0.3, 0.9], "offset": [0.3, 0.75, 1.5]}
    write_phoneme_times(store.directory, {id: times})
    experiment = TranscriberExperiment(HP, store, torch.device("cpu"))
    seconds = [0.2, 0.35, 0.95, 1.6]
    frames = [round(time / experiment.hop_seconds) for time in seconds]
    timed = experiment.targets(id, 0.0, 1.0, 100).phoneme[frames]
    assert [PHONEME_CLASSES[c] for c in timed] == ["S", "IY", "AA", SILENCE]
    other = experiment.targets(store.index["items"][1]["id"], 0.0, 1.0, 100).phoneme[frames]
    assert [PHONEME_CLASSES[c] for c in other] == [SILENCE, "S", SILENCE, SILENCE]


def flags(feature_dir: Path, save: Path, *extra: str) -> list[str]:
    where = ["--feature-dir", str(feature_dir), "--save-dir", str(save), "--device", "cpu"]
    return ["--data", "x", *TINY_FLAGS, "--run", "r", *where, *extra]


def test_a_run_logs_its_terms_and_can_be_used(feature_dir: Path, tmp_path: Path) -> None:
    save = tmp_path / "save"
    assert train_transcriber.main(flags(feature_dir, save, "--steps", "2")) == 0
    run = save / "transcriber" / "r"
    names = set().union(*map(json.loads, (run / "stats.jsonl").read_text().splitlines()))
    assert {f"train/{name}" for name in ("phoneme", "onset", "offset", "activation")} <= names
    scores = ("score", "phoneme_accuracy", "onset_f1", "onset_pitch_f1", "mix_onset_pitch_f1")
    assert {f"validation/{name}" for name in scores} <= names
    loaded = load_transcriber(run / "last.pt", torch.device("cpu"))
    assert loaded.data["phonemes"] == list(PHONEME_CLASSES)
    average = checkpoint.load(run / "last.pt", "transcriber")["ema"]
    assert all(torch.equal(t, average[k]) for k, t in loaded.network.state_dict().items())


def test_stopped_and_resumed_equals_uninterrupted(
    feature_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows, augmentation and dropout all come from (seed, step)."""
    # Pictures take most of the time.
    monkeypatch.setattr(TranscriberExperiment, "preview", lambda *_: None)
    steady = ["--set", "transcriber_training.schedule=constant"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train_transcriber.main(flags(feature_dir, whole, "--steps", "4", *steady)) == 0
    for steps in ("1", "4"):
        assert train_transcriber.main(flags(feature_dir, parts, "--steps", steps, *steady)) == 0
    states = [
        checkpoint.load(save / "transcriber" / "r" / "last.pt", "transcriber")
        for save in (whole, parts)
    ]
    for name, tensor in states[0]["model"].items():
        assert torch.equal(tensor, states[1]["model"][name]), name
    changed = ["--steps", "5", "--set", "transcriber.mix_probability=0.5", *steady]
    assert train_transcriber.main(flags(feature_dir, parts, *changed)) == 2


def test_targets_stand_where_they_are_sung(experiment: TranscriberExperiment) -> None:
    """Against the score, computed by hand; at another rate, at the times it is then heard."""
    for start, rate in ((0.0, 1.0), (0.3, 1.25)):
        targets = experiment.targets("song-00", start, rate, 60)
        times = start + rate * 0.02 * np.arange(60)
        names = [PHONEME_CLASSES[k] for k in targets.phoneme.tolist()]
        expected = [
            "S" if 0.25 <= t < 0.4 else "IY" if t < 0.75 else "AA" if 1 <= t < 1.5 else "sil"
            for t in times
        ]
        expected = ["sil" if t < 0.25 else name for t, name in zip(times, expected, strict=True)]
        assert names == expected
        active = ((times >= 0.25) & (times < 0.75)) | ((times >= 1.0) & (times < 1.5))
        assert np.array_equal(targets.note[:, 2].numpy(), active.astype(np.float32))
        heard = (1.0 - start) / rate / 0.02  # frame of the second onset
        assert abs(int(targets.note[20:, 0].argmax()) + 20 - heard) <= 0.5
    after = experiment.targets("song-00", 1.6, 1.0, 5)
    assert (after.phoneme == PHONEME_CLASSES.index("sil")).all() and not after.note.any()


def test_terms_count_frames_and_repeat_themselves(experiment: TranscriberExperiment) -> None:
    torch.manual_seed(0)
    network = build_transcriber(HP).eval()
    batch = next(iter(experiment.batches((0, 0))))[0]
    terms, again = (
        experiment.loss(network, batch, seeded_context(0, 0, 0, torch.device("cpu")))
        for _ in range(2)
    )
    counts = experiment.counts(batch)
    assert set(terms) == set(counts) == {"phoneme", "onset", "offset", "activation"}
    for name, term in terms.items():
        assert term.total.requires_grad and float(term.count) == counts[name] == 2 * 26
        assert torch.equal(term.total, again[name].total)


def test_speech_takes_its_share_has_phonemes_and_no_notes(
    experiment: TranscriberExperiment, speech_corpus: Callable[..., Path], tmp_path: Path
) -> None:
    """Windows are cut at their times at another rate, the same whenever they are asked for."""
    folder = speech_corpus(6)
    where = ["--feature-dir", str(tmp_path / "feature"), "--workers", "0"]
    shares = ["--validation-share", "0.2", "--test-share", "0.2"]
    assert prepare_data.main(["ljspeech", str(folder), "--name", "said", *shares, *where]) == 0
    store = FeatureStore(tmp_path / "feature" / "said")
    with pytest.raises(ValueError, match=r"prepare_data.py align said"):
        SpokenWindows(store, folder, "train")
    times = {
        item["id"]: {
            "onset": [0.05 * k for k in range(len(item["symbols"]))],
            "offset": [0.05 * (k + 1) for k in range(len(item["symbols"]))],
        }
        for item in store.index["items"]
    }
    path = store.directory / "phoneme_times.json"
    path.write_text(json.dumps({"version": 1, "items": times}))
    speech = SpokenWindows(store, folder, "train")
    mixed = TranscriberExperiment(HP, experiment.store, torch.device("cpu"), speech)
    mixed.hp = replace(HP, transcriber=replace(HP.transcriber, speech_share=0.5))
    (batch, following), (song, _) = (next(o.batches((0, 3))) for o in (mixed, experiment))
    assert following == (0, 4) and batch.ids[0] == song.ids[0]
    assert torch.equal(batch.wav[0], song.wav[0])
    assert torch.equal(batch.wav[1, 1], song.wav[1, 1])  # another's accompaniment
    said = batch.ids[1]
    assert said.startswith("speech/")
    wav, _ = read_wav(folder / "wavs" / f"{said.removeprefix('speech/')}.wav", RATE)
    start = int(batch.starts[1])
    part = wav[start : start + mixed.window]
    difference = batch.wav[1, 0, 200 : len(part) - 200] - part[200:-200]
    assert difference.abs().mean() < 0.3 * part.abs().mean()  # half a sample at most
    assert torch.equal(next(mixed.batches((0, 3)))[0].wav, batch.wav)

    targets = mixed.batch_targets(batch, torch.ones(2))
    symbols = {item["id"]: item["symbols"] for item in store.index["items"]}
    symbol = symbols[said.removeprefix("speech/")][int(start / RATE / 0.05)]
    assert int(targets.phoneme[1, 0]) == phoneme_class(symbol)
    frames = mixed.frames
    counts = dict.fromkeys(("onset", "offset", "activation"), frames)
    assert mixed.counts(batch) == {"phoneme": 2 * frames} | counts


class Perfect(torch.nn.Module):
    """Hears the fixture's score in any of its songs, from the beginning."""

    def __init__(self, experiment: TranscriberExperiment) -> None:
        super().__init__()
        self.experiment, self.weight = experiment, torch.nn.Parameter(torch.zeros(()))

    def forward(self, wav: torch.Tensor) -> Transcription:
        frames = 1 + wav.shape[1] // HP.transcriber.hop_length
        targets = self.experiment.targets("song-00", 0.0, 1.0, frames)
        phoneme = torch.nn.functional.one_hot(targets.phoneme, 39) * 20.0
        note = (targets.note - 0.5) * 20
        return Transcription(phoneme[None], note[None])


def test_validation_of_a_perfect_listener_is_perfect(experiment: TranscriberExperiment) -> None:
    """All the way from samples through F0 and decoding to the scores; mixes have a drone."""
    result = experiment.validate(Perfect(experiment))
    assert result["phoneme_accuracy"] == result["onset_f1"] == result["onset_pitch_f1"] == 1
    assert result["score"] == pytest.approx(0)
    assert result["mix_onset_f1"] == 1


def loaded_tiny() -> Loaded:
    torch.manual_seed(0)
    hp = replace(HP, transcriber=replace(HP.transcriber, chunk_seconds=1.0, margin_seconds=0.5))
    return Loaded(build_transcriber(hp).eval(), hp, {}, Path("tiny.pt"), 0)


@pytest.mark.parametrize("samples", [0, 1, 319, 320, 16000, 16001, 47999])
def test_every_length_has_its_frames(samples: int) -> None:
    heard = transcribe(loaded_tiny(), 0.1 * torch.randn(samples), RATE)
    frames = 1 + samples // 320
    assert heard.phoneme.shape == (frames, 39) and heard.note.shape == (frames, 3)
    assert heard.f0.shape == (frames,) and heard.hop_seconds == 0.02
    torch.testing.assert_close(heard.phoneme.sum(1), torch.ones(frames))


def test_what_is_heard_does_not_depend_on_how_long_it_goes_on() -> None:
    """Chunks of 1 s with 0.5 s around them: 4 s are heard alike before 3 s in a longer song."""
    torch.manual_seed(0)
    wav = 0.1 * torch.randn(9 * RATE)
    loaded = loaded_tiny()
    short, long = (transcribe(loaded, part, RATE) for part in (wav[: 4 * RATE], wav))
    torch.testing.assert_close(short.note[:150], long.note[:150])
    torch.testing.assert_close(short.phoneme[:150], long.phoneme[:150])
    assert torch.equal(short.f0[:150], long.f0[:150])


def test_channels_and_rates_are_brought_to_the_networks() -> None:
    """Stereo of equal sides is what mono is; another rate moves nothing."""
    wav = 0.3 * torch.sin(2 * torch.pi * 220 * torch.arange(2 * 44100) / 44100)
    loaded = loaded_tiny()
    mono, stereo = (transcribe(loaded, part, 44100) for part in (wav, wav.expand(2, -1)))
    assert torch.equal(mono.note, stereo.note) and len(mono.f0) == 101
    assert (1200 * (mono.f0[5:-5] / 220).log2()).abs().max() < 10


def test_recordings_are_transcribed_from_the_shell(
    feature_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    save = tmp_path / "save"
    assert train_transcriber.main(flags(feature_dir, save, "--steps", "1")) == 0
    run = str(save / "transcriber" / "r")
    (tmp_path / "lyrics.txt").write_text("see\nah\n")
    time = np.arange(44100) / 44100
    tone = 0.3 * np.sin(2 * np.pi * 220 * time)
    soundfile.write(tmp_path / "note.wav", np.stack([tone, tone], 1), 44100)
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000), 16000)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16000)

    def run_on(name: str, *extra: str) -> tuple[int, str]:
        out = str(tmp_path / f"{name}.mid")
        where = ["--transcriber", run, "--out", out, "--device", "cpu"]
        code = evaluate.main(["transcribe", str(tmp_path / f"{name}.wav"), *where, *extra])
        said = capsys.readouterr()
        return code, said.out + said.err

    for extra in ([], ["--lyrics", str(tmp_path / "lyrics.txt")]):
        assert run_on("note", *extra)[0] == 0
        assert mido.MidiFile(tmp_path / "note.mid").tracks
    code, said = run_on("silent")
    assert code == 0 and "0 notes in 1.0 s" in said
    assert not [m for m in mido.MidiFile(tmp_path / "silent.mid") if m.type == "note_on"]
    code, said = run_on("empty")
    assert code == 2 and "no samples" in said
    assert run_on("missing")[0] == 2
    assert not (tmp_path / "empty.mid").exists()


def test_songs_without_a_score_are_refused(
    feature_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = feature_dir / "x" / "index.json"
    index = json.loads(path.read_text())
    del index["items"][0]["score"]
    path.write_text(json.dumps(index))
    assert train_transcriber.main(flags(feature_dir, tmp_path / "save")) == 2
    assert "songs without a score" in capsys.readouterr().err
    wrong = flags(tmp_path / "nowhere", tmp_path / "save")
    assert train_transcriber.main(wrong) == 2
    assert "prepare_data.py" in capsys.readouterr().err


def test_the_floor_is_another_song_and_takes_are_one_song(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is heard depends on the song alone here, so another take would be a perfect floor."""
    frames = 40
    classes = {"a": torch.zeros(frames, dtype=torch.long), "b": torch.ones(frames).long()}

    def song(id: str) -> SungSong:
        wav = torch.full(((frames - 1) * 320,), float(classes[id[0]][0]))
        return SungSong(id, wav, wav, [], classes[id[0]])

    def heard(loaded: object, wav: torch.Tensor, rate: int) -> Transcribed:
        phoneme = torch.eye(len(PHONEME_CLASSES))[int(wav[0])].expand(frames, -1)
        return Transcribed(phoneme, torch.zeros(frames, 3), torch.zeros(frames), [], 0.02)

    monkeypatch.setattr(evaluation_transcriber, "transcribe", heard)
    loaded = Loaded(None, HP, {}, Path("none"), 0)
    ids = ["a@0", "a@1", "b@0", "b@1"]
    records = judge_transcriber(loaded, [partial(song, id) for id in ids])
    rows = [record["rows"] for record in records]
    assert [row["clean"]["phoneme_accuracy"] for row in rows] == [1.0] * 4
    assert [row["floor"]["phoneme_accuracy"] for row in rows] == [0.0] * 4
    rows[0]["clean"]["phoneme_accuracy"] = rows[1]["clean"]["phoneme_accuracy"] = 0.0
    metrics = evaluation_transcriber.METRIC_TITLES
    found = table.estimates(records, list(ROWS), "ceiling", metrics=metrics)
    estimate = found["phoneme_accuracy"]["clean"]["value"]
    assert (estimate.low, estimate.high) == (0.0, 100.0)  # two songs, not four
    alone = judge_transcriber(loaded, [partial(song, id) for id in ids[:2]])
    assert all("floor" not in record["rows"] for record in alone)  # two takes of one song


def test_a_transcriber_is_judged_on_a_split(
    feature_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """One table with clean vocals, mixes, ceilings and floor; transcriber.json says the same."""
    save = tmp_path / "save"
    assert train_transcriber.main(flags(feature_dir, save, "--steps", "1")) == 0
    run = str(save / "transcriber" / "r")
    where = ["--feature-dir", str(feature_dir), "--out", str(tmp_path / "out"), "--device", "cpu"]
    command = ["transcriber", "--data", "x", "--split", "validation", "--transcriber", run]
    assert evaluate.main([*command, *where]) == 0
    said = capsys.readouterr().out
    assert all(row in said for row in ROWS)
    result = json.loads((tmp_path / "out" / "transcriber.json").read_text())
    assert set(result["rows"]) == set(ROWS) and len(result["songs"]) == 2
    ceiling = {name: rows["ceiling"]["value"] for name, rows in result["metrics"].items()}
    assert {name: cell["value"] for name, cell in ceiling.items()} == dict.fromkeys(METRICS, 100.0)
    assert result["metrics"]["onset_f1"]["floor"]["value"]["value"] <= 100


def test_scores_of_a_transcription_by_hand(experiment: TranscriberExperiment) -> None:
    """Of ten frames three are wrong; frames that only one side has are wrong too."""
    classes = torch.tensor([0, 0, 0, 1, 1, 1, 38, 38, 38, 38])
    heard = torch.tensor([0, 0, 2, 1, 1, 1, 1, 38, 38, 0])
    phoneme = torch.nn.functional.one_hot(heard, 39).float()
    notes = [TranscribedNote(0.0, 0.06, 60.0), TranscribedNote(0.06, 0.12, 62.0)]
    one = Transcribed(phoneme, torch.zeros(10, 3), torch.zeros(10), notes, 0.02)
    scores = transcription_scores(one, [(0.0, 0.06, 60), (0.2, 0.3, 62)], classes)
    assert scores["phoneme_accuracy"] == pytest.approx(0.7)
    assert scores["onset_f1"] == scores["onset_pitch_f1"] == pytest.approx(0.5)
    longer = torch.cat([classes, torch.full((10,), 38)])
    assert transcription_scores(one, [], longer)["phoneme_accuracy"] == pytest.approx(0.35)
