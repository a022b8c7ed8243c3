"""Judge a trained chain on a corpus split: every number with its ceiling and its floor.

    python evaluate.py speech --data ljspeech --split test
    python evaluate.py song --data songbook --split test --report
    python evaluate.py folder out/vocals --references recordings
    python evaluate.py inpainting --data songs --split test --inpainter save/inpainter/songs/best.pt
    python evaluate.py pictures --data ljspeech --checkpoint save/transformer/speech/best.pt
    python evaluate.py curves save/inpainter/songs  # losses of a run: png/curves.png
    python evaluate.py samplers  # against a Gaussian posterior, exactly: png/samplers.png
    python evaluate.py phonemes out/vocal/vocal.wav  # by the earlier project's transcriber
    python evaluate.py transcribe out/vocal/vocal.wav --out out/heard.mid
    python evaluate.py melody --data songbook-stems --split test  # composed for its accompaniments
    python evaluate.py transcriber --data songbook-stems --split test  # what it hears of songs

`speech` counts the word errors that an independent recogniser makes on held-out sentences: on the
true mel through PostNet and Griffin-Lim (the ceiling), on the transformer's teacher-forced mel, on
its free-running mel (what synthesis gives), and on that against another sentence's text (the
floor). `song` renders held-out phrases from lyrics and notes alone, the same four ways, and
measures pitch, lyrics, onsets, level, sharpness and timbre. `folder` measures recordings of any
origin against their references. `inpainting` makes vocals of held-out windows anew, by the default
method and by the earlier system's, and measures their distance to the true stem, with another vocal
and silence as floors. The first three write evaluation.json, the last inpainting.json, .png and how
one window sounds. Interrupted, the same command continues.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from corpora.aligner import SpeechRecogniser
from corpora.songbook import phrase_places
from corpora.stores import open_features
from evaluation import arguments as evaluation_arguments
from evaluation import folder as evaluation_folder
from evaluation import gaussian_posterior as known_answer
from evaluation import inpainting as evaluation_inpainting
from evaluation import melody as evaluation_melody
from evaluation import shuffle as evaluation_shuffle
from evaluation import song as evaluation_song
from evaluation import speech as evaluation_speech
from evaluation import table as evaluation_table
from evaluation import transcriber as evaluation_transcriber
from evaluation.chain import describe_voice
from evaluation.frechet import Frechet
from evaluation.phrase_inpainter import LastStage, Place
from evaluation.report import Entry, write_report
from evaluation.transformer_figures import transformer_pictures
from evaluation.voice import Judges
from hyperparams import Hyperparams
from inpainter.diffusion import ACCOMPANIMENT, VOCAL
from legacy import weights as published
from music.score_batch import with_sung_times
from preprocess import ScoreTracks, StemBatches, StemStore, TextMelDataset
from singing.picture import song_picture
from singing.request import DEMO, SAVE
from singing.voice import load_voice
from text.frontend import Pronouncer
from text.lyrics import read_lyrics
from text.symbols import SYMBOL_TO_ID
from training.batching import spread
from training.curves import BY_LEVEL, error_curves, learning_curves, noise_level_curves
from training.runlog import read_stats
from transcription.labels import class_table
from transcription.lyrics import heard_melody, lay_heard, write_melody
from transcription.transcribe import (
    load_transcriber,
    phoneme_entropies,
    published_transcriber,
    transcribe,
)
from utils import checkpoint, config, distributed, files, plotting
from utils.audio import read_audio, read_wav
from utils.journal import Journal
from utils.loading import check_pair, describe_weights, load
from utils.metrics import LINEAR_FLOOR, MEL_FLOOR

LYRICS = Path("examples/lyrics.txt")  # that `melody` sets to music


def write_result(path: Path, content: dict[str, Any]) -> None:
    """Write a result and say where it is."""
    files.write_json(path, content, indent=2, allow_nan=True)
    print(path)


def judges_for(arguments: argparse.Namespace, hyperparams: Hyperparams) -> Judges:
    """The judges that are installed; what is missing is said, here and in the table."""
    transcriber = None
    if arguments.transcriber is not None:
        path = checkpoint.resolve(arguments.transcriber, "transcriber")
        transcriber = load_transcriber(path, torch.device("cpu"))
    judges = Judges.available(hyperparams.audio, transcriber)
    for name, needed in judges.missing.items():
        print(f"without {name}: {needed}", file=sys.stderr)
    return judges


def show(
    records: Sequence[dict[str, Any]],
    rows: Sequence[str],
    judged: str,
    judges: Judges,
    distances: dict[str, Frechet],
) -> dict[str, Any]:
    """Print the one table of `song` and `folder`; return what evaluation.json says of it."""
    estimates = evaluation_table.estimates(records, rows, "ceiling")
    cells = evaluation_table.cells(estimates, rows, judged, judges.missing)
    print("\n".join(evaluation_table.layout(cells)))
    for row, distance in distances.items():
        print(f"{row}: {distance}")
    if "embedding" in judges.missing:
        print(f"Fréchet distance not measured: {judges.missing['embedding']}")
    controls = evaluation_table.shuffle_controls(records, judged)
    for name, control in controls.items():
        print(
            f"shuffle control, {name}: {control['difference']['value']:+.3f} own - other, "
            f"p = {control['p_value']:.4f}"
        )
    return {
        "metrics": evaluation_table.plain(estimates),
        "frechet_distance": {row: asdict(distance) for row, distance in distances.items()},
        "shuffle_control": controls,
        "missing": judges.missing,
        "table": cells,
    }


def conclude(
    arguments: argparse.Namespace,
    title: str,
    settings: dict[str, Any],
    result: dict[str, Any],
    records: Sequence[dict[str, Any]],
    entry: Callable[[str, dict[str, Any]], Entry],
) -> int:
    """Write evaluation.json and, when asked, report.html of some items; return the exit code."""
    write_result(arguments.out / "evaluation.json", settings | result | {"items": records})
    if arguments.report:
        entries = (entry(r["id"], r) for r in spread(records, arguments.report))
        print(write_report(arguments.out / "report.html", title, settings, result, entries))
    return 0


def speech(arguments: argparse.Namespace) -> int:
    """The `speech` command."""
    device = distributed.start(arguments.device).device
    voice = load_voice(arguments.checkpoint, arguments.postnet, device)
    store = open_features(arguments.feature_dir, arguments.data)
    store.check_audio(voice.hyperparams.audio)
    dataset = TextMelDataset(store, arguments.split)
    judge = evaluation_speech.SpeechJudge(voice, dataset, arguments.seed, SpeechRecogniser())
    settings = {
        "data": arguments.data,
        "split": arguments.split,
        "judge": SpeechRecogniser.NAME,
        "seed": arguments.seed,
        **describe_voice(voice),
    }
    ids = list(judge.numbers)[: arguments.limit or None]
    journal = Journal(arguments.out / "speech.jsonl", settings)
    records = journal.complete(ids, judge.judge)
    result, lines = evaluation_speech.summary(records)
    print(f"{len(records)} items of {arguments.data}/{arguments.split}; {SpeechRecogniser.NAME}")
    print("\n".join(lines))
    write_result(arguments.out / "evaluation.json", settings | result | {"items": records})
    return 0


def song(arguments: argparse.Namespace) -> int:
    """The `song` command."""
    device = distributed.start(arguments.device).device
    voice = load_voice(arguments.checkpoint, arguments.postnet, device)
    store = open_features(arguments.feature_dir, arguments.data)
    store.check_audio(voice.hyperparams.audio)
    judges = judges_for(arguments, voice.hyperparams)
    judges.missing["accompaniment"] = (
        "phrases have none; evaluate.py folder reads NAME.accompaniment.wav"
    )
    dataset = TextMelDataset(store, arguments.split)
    last_stage = None
    if arguments.inpainter is not None:
        last_stage = last_stage_of(arguments, dataset, device)
        check_pair(voice.transformer, last_stage.inpainter)
    judge = evaluation_song.SongJudge(
        voice, dataset, arguments.seed, judges, arguments.out / "embeddings", last_stage
    )
    asked = {name: getattr(arguments, name) for name in ("data", "split", "seed")}
    if last_stage is not None:
        asked["inpainter"] = describe_weights(last_stage.inpainter)
        asked["inpainting"] = asdict(last_stage.inpainter.hyperparams.inpainting)
    settings = evaluation_song.identity(voice, judges, asked)
    ids = spread(list(judge.numbers), arguments.limit or len(judge.numbers))
    records = Journal(arguments.out / "song.jsonl", settings).complete(ids, judge.judge, "phrase")
    songs = {record["song"] for record in records}
    title = f"{len(records)} phrases of {len(songs)} songs, {arguments.data}/{arguments.split}"
    print(title)
    rows = judge.rows
    result = show(records, list(rows), evaluation_song.JUDGED, judges, judge.frechet(ids))
    compared = judge.compared(records)
    for name, test in compared.items():
        print(f"inpainted - free_running, {name}: {test}")
    result |= {"rows": rows, "compared": {name: test.as_dict() for name, test in compared.items()}}
    if (change := judge.frechet_change(records)) is not None:
        print(f"inpainted - free_running, Fréchet distance: {change}")
        result["compared"]["frechet_distance"] = change.as_dict()
    return conclude(arguments, title, settings, result, records, judge.entry)


def last_stage_of(
    arguments: argparse.Namespace, dataset: TextMelDataset, device: torch.device
) -> LastStage:
    """The inpainter of `--inpainter` on the stems that the phrases were cut from."""
    inpainter = load(arguments.inpainter, "inpainter", device)
    directory = arguments.feature_dir / arguments.data
    stems = StemStore(directory.with_name(f"{directory.name}-stems"))
    stems.check_audio(inpainter.hyperparams.audio)
    places = {id: Place(*place) for id, place in phrase_places(directory).items()}
    return LastStage(inpainter, stems, places, dataset.items, arguments.seed)


def folder(arguments: argparse.Namespace) -> int:
    """The `folder` command."""
    audio = Hyperparams().audio
    judges = judges_for(arguments, Hyperparams())
    items = evaluation_folder.match(arguments.rendered, arguments.references)
    judge = evaluation_folder.FolderJudge(items, judges, Pronouncer())
    settings = judge.settings()
    records = Journal(arguments.out / "folder.jsonl", settings).complete(
        list(items), judge.judge, "file"
    )
    title = f"{len(records)} recordings of {arguments.rendered} against {arguments.references}"
    print(f"{title}, at {audio.sample_rate} Hz")
    rows = evaluation_folder.ROWS
    result = show(records, list(rows), evaluation_folder.JUDGED, judges, judge.frechet())
    return conclude(arguments, title, settings, result | {"rows": rows}, records, judge.entry)


def inpainting(arguments: argparse.Namespace) -> int:
    """The `inpainting` command."""
    ways = evaluation_inpainting.WAYS
    everything = arguments.rows == ["all"]
    asked = [] if everything or arguments.rows is None else arguments.rows
    unknown = sorted(set(asked) - set(ways))
    if unknown:
        raise ValueError(f"--rows {' '.join(unknown)}: choose from {', '.join(ways)}, all")
    device = distributed.start(arguments.device).device
    path = checkpoint.resolve(arguments.inpainter, "inpainter")
    loaded = load(path, "inpainter", device)
    possible = [name for name, way in ways.items() if way.is_possible(loaded.hyperparams)]
    impossible = sorted(set(asked) - set(possible))
    if impossible:
        raise ValueError(
            f"--rows {' '.join(impossible)}: {path} takes no context or sees no mask; it can do "
            f"{', '.join(possible)}"
        )
    offered = possible if everything else evaluation_inpainting.DEFAULT_ROWS
    names = asked or [name for name in offered if name in possible]
    postnet = None
    if any(ways[name].needs_waveform(loaded.hyperparams.unet) for name in names):
        postnet = load(arguments.postnet, "postnet", device)
        check_pair(loaded, postnet)
    hp = loaded.hyperparams
    store = StemStore(arguments.feature_dir / arguments.data)
    store.check_audio(hp.audio)
    training = replace(hp.inpainter_training, batch_size=arguments.batch_size)
    windows = StemBatches(store, arguments.split, training, hp.window)
    batches = list(windows.head(math.ceil(arguments.windows / arguments.batch_size)))
    if batches[0].other is None:
        raise ValueError(f"{store.directory} holds one song: a shuffle control needs two")
    judges = Judges.available(hp.audio, None)
    if "embedding" in judges.missing:
        print(f"Fréchet distance not measured: {judges.missing['embedding']}")
    settings = {
        "data": arguments.data,
        "split": arguments.split,
        "seed": arguments.seed,
        "windows": [batch.ids for batch in batches],
        "starts": [batch.starts.tolist() for batch in batches],
        "device": distributed.describe_device(device),
        "inpainter": describe_weights(loaded),
        "postnet": None if postnet is None else describe_weights(postnet),
        "embedding": None if judges.embedding is None else judges.embedding.NAME,
        "floors": {"linear": LINEAR_FLOOR, "mel": MEL_FLOOR},
    }
    judge = evaluation_inpainting.InpaintingJudge(
        loaded, postnet, batches, arguments.seed, arguments.out, judges.embedding
    )
    journal = Journal(arguments.out / "inpainting.jsonl", settings)
    ids = evaluation_inpainting.ids_of(names, len(batches))
    rows = evaluation_inpainting.rows_of(journal.complete(ids, judge.judge, "batch"))
    shuffled, heard = [], {}
    if arguments.control_windows and hp.unet.mask_input:  # else it is not told what is known
        number = math.ceil(arguments.control_windows / arguments.batch_size)
        controlled = list(windows.head(number))
        tells = hp.unet.context_width and (postnet or not hp.unet.draft_input)
        context_of = judge.context if tells else None
        control = evaluation_shuffle.ShuffleJudge(loaded, controlled, arguments.seed, context_of)
        journal = Journal(
            arguments.out / "shuffle.jsonl",
            settings | {"windows": [batch.ids for batch in controlled]},
        )
        records = journal.complete(map(str, range(number)), control.judge, "batch")
        heard = evaluation_shuffle.controls(records)
        shuffled = evaluation_shuffle.lines(heard, sum(len(b.ids) for b in controlled))
    count = sum(len(batch.ids) for batch in batches)
    print(f"{path} (step {loaded.step}), {count} windows of {arguments.data}/{arguments.split}")
    print("\n".join([*evaluation_inpainting.table(rows), *shuffled]))
    controls = {
        name: test.as_dict() | {"if": meaning}
        for name, (test, meaning) in evaluation_inpainting.controls(rows).items()
    }
    distances = judge.frechet(names)
    for name, distance in distances.items():
        print(f"{name}: {distance}")
    nearer = judge.frechet_differences(names)
    for name, difference in nearer.items():
        print(f"{name}, Fréchet distance: {difference}")
    out = arguments.out / "inpainting.json"
    result = {
        "rows": rows,
        "controls": controls,
        "shuffle_control": {
            kind: {level: test.as_dict() for level, test in tests.items()}
            for kind, tests in heard.items()
        },
        "frechet_distance": {name: asdict(distance) for name, distance in distances.items()},
        "frechet_difference": {name: part.as_dict() for name, part in nearer.items()},
    }
    write_result(out, settings | result)
    seconds = hp.window / hp.audio.sample_rate
    marked = {name: [tuple(share * seconds for share in ways[name].unknown)] for name in names}
    picture = song_picture(judge.sounds(names), hp.audio, marked)
    print(plotting.save_figure(picture, out.with_suffix(".png")))
    return 0


def melody(arguments: argparse.Namespace) -> int:
    """The `melody` command: composed and written melodies on the harmony of held-out songs."""
    store = StemStore(arguments.feature_dir / arguments.data)
    rate = store.index["sample_rate"]
    items = [item for item in store.items(arguments.split) if "score" in item]

    def read(item: dict[str, Any]) -> evaluation_melody.Accompanied:
        wav = store.window(item["id"], 0, item["num_samples"])[ACCOMPANIMENT]
        return evaluation_melody.Accompanied(item["id"], wav.numpy(), rate, item["score"]["notes"])

    records = evaluation_melody.evaluate_melodies(
        [partial(read, item) for item in items],
        read_lyrics(arguments.lyrics),
        Pronouncer(),
        Hyperparams().composer,
        arguments.seed,
        partial(tqdm, desc="melody", unit="song"),
    )
    for record in records:
        if "fault" in record:
            print(f"nothing composed for {record['id']}: {record['fault']}")
    estimates = evaluation_melody.table(records)
    controls = evaluation_melody.shuffle_controls(records)
    print(f"{len(records)} accompaniments of {arguments.data}/{arguments.split}")
    print("\n".join(evaluation_melody.layout(estimates, controls)))
    result = {
        "data": arguments.data,
        "split": arguments.split,
        "lyrics": str(arguments.lyrics),
        "seed": arguments.seed,
        "metrics": {
            row: {name: cell.as_dict() for name, cell in cells.items()}
            for row, cells in estimates.items()
        },
        "shuffle_control": {row: test.as_dict() for row, test in controls.items()},
        "songs": records,
    }
    write_result(arguments.out / "melody.json", result)
    return 0


def pictures(arguments: argparse.Namespace) -> int:
    """The `pictures` command."""
    loaded = load(arguments.checkpoint, "transformer", torch.device("cpu"))
    store = open_features(arguments.feature_dir, arguments.data)
    dataset = TextMelDataset(store, arguments.split)
    if not 0 <= arguments.item < len(dataset):
        raise ValueError(
            f"--item {arguments.item}: {arguments.data}/{arguments.split} has items 0 to "
            f"{len(dataset) - 1}"
        )
    dataset.standardise = loaded.standardiser("mel")
    batch = dataset.collate([dataset[arguments.item]])
    for path in transformer_pictures(loaded, batch, arguments.out):
        print(path)
    return 0


def curves(arguments: argparse.Namespace) -> int:
    """The `curves` command: what a run has logged, as a picture."""
    stats = read_stats(arguments.run)
    by_level = any(key.startswith(BY_LEVEL) for line in stats for key in line)
    draw = noise_level_curves if by_level else learning_curves
    print(plotting.save_figure(draw(stats), arguments.out))
    return 0


@torch.inference_mode()
def phonemes(arguments: argparse.Namespace) -> int:
    """Print how clear and how varied the phonemes of recordings are."""
    device = distributed.start(arguments.device).device
    path = arguments.transcriber or published_transcriber(
        published.TRANSCRIBER_PATH, SAVE, config.preset("base")
    )
    transcriber = load_transcriber(path, device)
    rate = transcriber.hyperparams.audio.sample_rate
    print(f"{path}, step {transcriber.step}; entropies in bits over sung frames")
    print(f"{'accuracy':>10} {'variety':>10} {'sung':>7}")
    for file in arguments.files:
        wav, _ = read_wav(file, rate)
        logits = transcriber.network.recognise(wav[None].to(device))[0]
        found = phoneme_entropies(logits)
        bits = [
            "-" if value is None else f"{value:.3f}" for value in (found.accuracy, found.variety)
        ]
        print(f"{bits[0]:>10} {bits[1]:>10} {found.sung:>7.1%}  {file}")
    return 0


def samplers(arguments: argparse.Namespace) -> int:
    """The `samplers` command: errors where the answer is known, as a table and a picture."""
    torch.set_num_threads(1)
    print(known_answer.markdown_table())
    figure = error_curves(
        known_answer.error_curves(), "squared Wasserstein-2 distance / posterior trace"
    )
    print(plotting.save_figure(figure, arguments.out / "samplers.png"))
    return 0


def transcription(arguments: argparse.Namespace) -> int:
    """The `transcribe` command: a recording to a MIDI file with lyrics."""
    lines = read_lyrics(arguments.lyrics) if arguments.lyrics else None
    device = distributed.start(arguments.device).device
    path = checkpoint.resolve(arguments.transcriber, "transcriber")
    wav, rate = read_audio(arguments.file)
    heard = transcribe(load_transcriber(path, device), wav, rate)
    melody = heard_melody(heard) if lines is None else lay_heard(heard, lines, Pronouncer())
    write_melody(melody, arguments.out)
    print(f"{arguments.out}: {len(heard.notes)} notes in {wav.shape[1] / rate:.1f} s")
    return 0


def transcriber(arguments: argparse.Namespace) -> int:
    """The `transcriber` command: phonemes and notes of held-out songs, clean and as mixes."""
    device = distributed.start(arguments.device).device
    path = checkpoint.resolve(arguments.transcriber, "transcriber")
    loaded = load_transcriber(path, device)
    knobs, rate = loaded.hyperparams.transcriber, loaded.hyperparams.audio.sample_rate
    store = StemStore(arguments.feature_dir / arguments.data)
    store.check_audio(loaded.hyperparams.audio)
    items = [item for item in store.items(arguments.split) if "score" in item]
    if not items:
        raise ValueError(f"{store.directory}: no song of the {arguments.split} split has a score")
    tracks = ScoreTracks(with_sung_times(items, store.phoneme_times()), SYMBOL_TO_ID)
    classes = class_table()

    def read(item: dict[str, Any]) -> evaluation_transcriber.SungSong:
        stems = store.window(item["id"], 0, item["num_samples"])
        frames = 1 + stems.shape[1] // knobs.hop_length
        symbols, _ = tracks.window(item["id"], 0.0, knobs.hop_length / rate, frames)
        notes = item["score"]["notes"]
        return evaluation_transcriber.SungSong(
            item["id"], stems[VOCAL], stems.sum(0), notes, classes[symbols]
        )

    songs = [partial(read, item) for item in items]
    records = evaluation_transcriber.evaluate_transcriber(
        loaded, songs, partial(tqdm, desc="transcribe", unit="song")
    )
    estimates = evaluation_transcriber.table(records)
    judged = f"{len(records)} songs of {arguments.data}/{arguments.split}"
    print(f"{path} (step {loaded.step}), {judged}")
    print("\n".join(evaluation_transcriber.layout(estimates)))
    result = {
        "data": arguments.data,
        "split": arguments.split,
        "transcriber": {"path": str(path), "step": loaded.step},
        "rows": {
            row: {metric: cell.as_dict() for metric, cell in cells.items()}
            for row, cells in estimates.items()
        },
        "songs": records,
    }
    write_result(arguments.out / "transcriber.json", result)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate from the shell; return the exit code."""
    commands = {
        "speech": speech,
        "song": song,
        "folder": folder,
        "inpainting": inpainting,
        "melody": melody,
        "pictures": pictures,
        "curves": curves,
        "phonemes": phonemes,
        "samplers": samplers,
        "transcribe": transcription,
        "transcriber": transcriber,
    }
    description = __doc__.split("\n\n")[0]
    arguments = evaluation_arguments.parse(argv, commands, DEMO, LYRICS, description)
    try:
        return arguments.command(arguments)
    except (ValueError, FileNotFoundError, ImportError) as error:
        print(f"evaluate.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
