"""What does synthesis.py sing where no words are given? Judged on the files that it writes.

Held-out accompaniments alone get a vocal; of held-out vocals 2 s are sung again as they are heard,
or made new where they are missing, and 3 s are sung on behind an end. Everything goes through
`singing.sing.sing_song`, as from the command line, and is read back from vocal.wav.
Shapes: S samples, T frames, M mels.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from composer.harmony import Harmony, analyse
from corpora.records import song_of
from evaluation import statistics, table
from evaluation.chain import describe_voice
from evaluation.mels import EDGE_SECONDS, PART_METRICS, SONG_METRICS, part_tests, pitch_jump
from evaluation.naturalness import DNSMOS
from evaluation.report import write_result
from evaluation.score_metrics import harmony_fit
from evaluation.table import Metric, counted
from evaluation.voice import without_nan
from evaluation.whole_chain import WholeChain
from inpainter.diffusion import ACCOMPANIMENT, VOCAL
from inpainter.windows import seam_roughness
from singing.request import COMPOSE, NONE
from training.batching import evenly_spaced
from transcription.transcribe import transcribe
from utils import distributed
from utils.files import Journal
from utils.loading import describe_weights, load_network
from utils.metrics import f0_track, frame_difference_ratio, frame_distance

GAP_SECONDS, CONTINUATION_SECONDS = 2.0, 3.0
BEFORE, BEHIND = 12.0, 6.0  # s of a song around a part that the chain gets
SUNG_SHARE = 0.6  # of a part, and of the second before it, that has notes
LEVEL_SECONDS = 0.1  # s on either side of an edge whose levels are compared
PART_ROWS = {
    "gap": {
        "again": "sung again as the take has it",
        "missing": "silent in the take: notes composed for it",
    },
    "continuation": {
        "missing": "composed on, in range and pace of the take",
        "own": "with --melody none: the inpainter on mels goes on",
    },
}
FLOORS = {
    "line": "straight lines between the frames at its edges",
    "other": "another song's vocal",
    "silence": "silence",
}
TRUE = "true"
METRICS = {
    **PART_METRICS,
    "level_jump": Metric("level jump at the edges, median", "dB", is_median=True),
    "roughness": Metric("roughness of the edges, median", is_median=True),
}
SUNG_METRICS = {
    **SONG_METRICS,
    "dnsmos": Metric("DNSMOS P.808", needs="dnsmos"),
    "dnsmos_overall": Metric("DNSMOS P.835, overall", needs="dnsmos"),
}
SONG_ROWS = {
    "chain": "synthesis.py --accompaniment FILE",
    "own": "with --melody none: the inpainter on mels finds its own notes",
    TRUE: "the song's own vocal",
}


def evaluate_wordless(arguments: Namespace) -> None:
    """Judge the chain without words; print tables, write wordless.json."""
    device, out = distributed.start(arguments.device).device, arguments.out
    judge = WholeChain(arguments, device)
    settings: dict[str, Any] = {
        **{name: getattr(arguments, name) for name in ("data", "split", "seed", "seconds")},
        **describe_voice(judge.voice),
        "transcriber": describe_weights(judge.transcriber),
        "sampling": asdict(judge.voice.hyperparams.synthesis),
        "dnsmos": judge.dnsmos and DNSMOS.NAME,
    }
    for kind in ("inpainter", "mel_inpainter"):
        path = judge.paths.get(kind)
        network = None if path is None else load_network(path, "inpainter", device)
        settings[kind] = network and describe_weights(network)
    print(f"{judge.voice.path} (step {judge.voice.transformer.step}), {arguments.data}/", end="")
    print(arguments.split)
    result: dict[str, Any] = {}
    if arguments.windows:
        result["parts"] = print_excerpts(ExcerptJudge(judge, arguments.windows), settings, out)
    if arguments.songs:
        songs = BackingJudge(judge, arguments.songs, arguments.seconds)
        result["songs"] = print_backings(songs, settings, out)
    write_result(out / "wordless.json", settings | result)


# ---------------------------------------------------------------------------- parts of vocals


@dataclass(frozen=True)
class Excerpt:
    """Stems (S,) around a part that begins at sample `start` of them."""

    id: str
    vocal: Tensor
    accompaniment: Tensor
    start: int


class ExcerptJudge:
    """Sing parts of held-out vocals again, and measure what stands there then."""

    def __init__(self, chain: WholeChain, count: int) -> None:
        """count: of excerpts, one of each song. ValueError where fewer than two songs have one."""
        self.chain = chain
        found = [(item, at) for item in chain.items if (at := self._place(item)) is not None]
        self.excerpts = [self._excerpt(*pair) for pair in evenly_spaced(found, count)]
        if len(self.excerpts) < 2:
            raise ValueError(
                f"{chain.store.directory}: {counted(len(found), 'song')} of the split with notes "
                f"for {CONTINUATION_SECONDS:g} s behind {BEFORE:g} s, expected two or more"
            )

    def _place(self, item: Mapping[str, Any]) -> float | None:
        """Return the first time (s) behind BEFORE from which a song is sung for a part's length."""
        notes = item.get("score", {}).get("notes", ())
        end = item["num_samples"] / self.chain.rate - BEHIND

        def covered(start: float, stop: float) -> bool:
            sung = sum(max(0.0, min(b, stop) - max(a, start)) for a, b, _ in notes)
            return sung >= SUNG_SHARE * (stop - start)

        for start in np.arange(BEFORE, end - CONTINUATION_SECONDS, 0.25).tolist():
            parts = ((start - 1.0, start), (start, start + GAP_SECONDS))
            if all(covered(*p) for p in (*parts, (start, start + CONTINUATION_SECONDS))):
                return start
        return None

    def _excerpt(self, item: Mapping[str, Any], seconds: float) -> Excerpt:
        rate, hop = self.chain.rate, self.chain.audio.hop_length
        before = round(BEFORE * rate) // hop * hop
        first = round(seconds * rate) - before
        length = before + round((CONTINUATION_SECONDS + BEHIND) * rate)
        stems = self.chain.store.window(item["id"], first, length)
        return Excerpt(item["id"], stems[VOCAL], stems[ACCOMPANIMENT], before)

    def judge(self, key: str) -> dict[str, Any]:
        """Measure `KIND/NUMBER`: the gap or continuation of an excerpt, by every row."""
        kind, _, number = key.partition("/")
        excerpt = self.excerpts[int(number)]
        rate, hop = self.chain.rate, self.chain.audio.hop_length
        seconds = GAP_SECONDS if kind == "gap" else CONTINUATION_SECONDS
        start, stop = excerpt.start, excerpt.start + round(seconds * rate) // hop * hop
        true_mel = self.chain.mel(excerpt.vocal)
        first, last = start // hop, stop // hop
        made = {**self.made(kind, excerpt, start, stop), **self.floors(int(number), start, stop)}
        heard = None if kind == "gap" else stop
        rows = {}
        for row, wav in made.items():
            mel = self.chain.mel(wav)
            if row == "line":
                mel = self.line(true_mel, first, last, kind)
            mels = [self.chain.standard(part[first:last]).numpy() for part in (mel, true_mel)]
            rows[row] = without_nan(
                {
                    "distance": frame_distance(*mels),
                    "sharpness": frame_difference_ratio(*mels),
                    **self.edges(wav[:heard], excerpt.vocal, start, stop),
                }
            )
        return {"song": song_of(excerpt.id), "rows": rows}

    def made(self, kind: str, excerpt: Excerpt, start: int, stop: int) -> dict[str, Tensor]:
        """Return the vocals (S,) by the rows of the chain."""
        backing, vocal, rate = excerpt.accompaniment, excerpt.vocal, self.chain.rate
        if kind == "continuation":
            take, seconds = vocal[:start], (stop - start) / rate
            on = {"missing": self.chain.sing(backing, take, extend=seconds)}
            if self.chain.finds_notes:
                on["own"] = self.chain.sing(backing, take, extend=seconds, melody=NONE)
            return on
        span = f"{start / rate}-{stop / rate}"
        silenced = vocal.clone()
        silenced[start:stop] = 0.0
        return {
            "again": self.chain.sing(backing, vocal, span),
            "missing": self.chain.sing(backing, silenced, span, melody=COMPOSE),
        }

    def floors(self, number: int, start: int, stop: int) -> dict[str, Tensor]:
        """Return the vocals (S,) by FLOORS, and the truth by PostNet and Griffin-Lim."""
        vocal, other = (self.excerpts[(number + n) % len(self.excerpts)].vocal for n in (0, 1))
        hop = self.chain.audio.hop_length
        mel = self.chain.mel(vocal)
        lines = mel.clone()
        lines[start // hop : stop // hop] = self.line(mel, start // hop, stop // hop, "gap")[
            start // hop : stop // hop
        ]
        parts = {
            "line": self.chain.rendered(lines),
            "other": other,
            "silence": torch.zeros_like(vocal),
            TRUE: self.chain.rendered(mel),
        }
        made = {}
        for row, part in parts.items():
            made[row] = vocal.clone()
            length = min(len(part), stop) - start
            made[row][start : start + length] = part[start : start + length]
        return made

    @staticmethod
    def line(mel: Tensor, first: int, last: int, kind: str) -> Tensor:
        """Return a log mel (T, M) with straight lines in frames [first, last).

        Behind the end of a take nothing is known: the last frame goes on.
        """
        behind = mel[last] if kind == "gap" else mel[first - 1]
        share = torch.linspace(0, 1, last - first + 2)[1:-1, None]
        return torch.cat([mel[:first], torch.lerp(mel[first - 1], behind, share), mel[last:]])

    def edges(self, wav: Tensor, true: Tensor, start: int, stop: int) -> dict[str, Any]:
        """Measure jumps of pitch and level at the edges, and how much more is voiced within."""
        rate, hop = self.chain.rate, self.chain.audio.hop_length
        around = round(rate) // hop * hop
        low, high = start - around, min(len(wav), stop + around)
        tracks = [f0_track(w[low : stop + around], rate, hop).numpy() for w in (wav, true)]
        edges = [start] + ([stop] if stop < len(wav) else [])
        reach = round(EDGE_SECONDS * self.chain.audio.frame_rate)
        jumps = [pitch_jump(tracks[0], (edge - low) // hop, reach) for edge in edges]
        inside = slice((start - low) // hop, (stop - low) // hop)
        voiced = [float((track[inside] > 0).mean()) for track in tracks]
        length = round(LEVEL_SECONDS * rate)

        def level(part: Tensor) -> float:
            return 10 * float(np.log10(part.double().square().mean().item() + 1e-10))

        levels = [level(wav[e : e + length]) - level(wav[e - length : e]) for e in edges]
        return {
            "jump": [jump for jump in jumps if jump is not None],
            "voiced_difference": voiced[0] - voiced[1],
            "level_jump": [abs(difference) for difference in levels],
            "roughness": [seam_roughness(wav[low:high], edge - low) for edge in edges],
        }


def print_excerpts(judge: ExcerptJudge, settings: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Print a table and the tests of each kind of part; return their numbers."""
    result = {}
    excerpts = [[excerpt.id, excerpt.start] for excerpt in judge.excerpts]
    for kind, own in PART_ROWS.items():
        journal = Journal(out / f"wordless-{kind}.jsonl", {**settings, "excerpts": excerpts})
        keys = [f"{kind}/{number}" for number in range(len(excerpts))]
        records = journal.complete(keys, judge.judge, "excerpt")
        sung = tuple(row for row in own if row in records[0]["rows"])
        rows = [*sung, *FLOORS, TRUE]
        print(f"{kind}s in {counted(len(records), 'song')}")
        metrics = table.print_rows(records, rows, TRUE, METRICS)
        tests = table.print_tests(part_tests(records, sung))
        result[kind] = {"metrics": metrics, "tests": tests}
    return result


# ---------------------------------------------------------------------------- accompaniments alone


class BackingJudge:
    """Sing to held-out accompaniments alone, and measure what is heard."""

    def __init__(self, chain: WholeChain, count: int, seconds: int) -> None:
        """Count: of songs, of each its first `seconds`. ValueError for fewer than two songs."""
        self.chain, self.samples = chain, seconds * chain.rate
        self.items = evenly_spaced(chain.items, count)
        if len(self.items) < 2:
            raise ValueError(
                f"{chain.store.directory}: one song alone has no other's harmony: --songs 2"
            )
        self.harmonies: dict[str, Harmony] = {}

    def stems(self, item: Mapping[str, Any]) -> Tensor:
        """Read the beginning of a song, (2, S)."""
        return self.chain.store.window(item["id"], 0, min(self.samples, item["num_samples"]))

    def harmony(self, item: Mapping[str, Any]) -> Harmony:
        """Analyse an accompaniment, once."""
        if item["id"] not in self.harmonies:
            backing = self.stems(item)[ACCOMPANIMENT].numpy()
            self.harmonies[item["id"]] = analyse(backing, self.chain.rate)
        return self.harmonies[item["id"]]

    def judge(self, id: str) -> dict[str, Any]:
        """Measure the vocal made for a song, and its own."""
        item = next(item for item in self.items if item["id"] == id)
        stems, rate = self.stems(item), self.chain.rate
        others = [self.harmony(other) for other in self.items if other["id"] != id]
        backing = stems[ACCOMPANIMENT]
        vocals = {"chain": self.chain.sing(backing), TRUE: stems[VOCAL]}
        if self.chain.finds_notes:
            vocals["own"] = self.chain.sing(backing, melody=NONE)
        rows = {}
        for row, wav in vocals.items():
            heard = transcribe(self.chain.transcriber, wav, rate)
            fit = harmony_fit(heard.notes, self.harmony(item), others)
            f0 = f0_track(wav, rate, self.chain.audio.hop_length)
            rows[row] = without_nan(
                {
                    "chord_tones": fit["chord_tones"],
                    "chord_tones_shuffled": fit["chord_tones_shuffled"],
                    "notes_per_second": len(heard.notes) * rate / len(wav),
                    "voiced": float((f0 > 0).float().mean()),
                    "singing": float((heard.note[:, 2] > 0.5).float().mean()),
                    **(self.chain.dnsmos(wav, rate) if self.chain.dnsmos else {}),
                }
            )
        return {"song": song_of(id), "rows": rows}


def print_backings(judge: BackingJudge, settings: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Print the table and the tests of accompaniments alone; return their numbers."""
    ids = [item["id"] for item in judge.items]
    journal = Journal(out / "wordless-songs.jsonl", {**settings, "songs": ids})
    records = journal.complete(ids, judge.judge, "song")
    seconds = judge.samples / judge.chain.rate
    print(f"{counted(len(records), 'accompaniment')} alone, {seconds:.0f} s each")
    missing = judge.chain.missing
    made = [row for row in SONG_ROWS if row in records[0]["rows"]]
    metrics = table.print_rows(records, made, TRUE, SUNG_METRICS, missing)
    tests = {}
    for row in made:
        control = table.shuffle_controls(records, row).get("chord_tones")
        if control is not None:
            tests[f"chord tones, {row}, own - other harmonies"] = control
    songs = [record["song"] for record in records]
    voiced = {row: [record["rows"][row]["voiced"] for record in records] for row in made}
    for row in made[:-1]:
        tests[f"voiced share, {row} - true"] = statistics.paired_test(
            voiced[row], voiced[TRUE], songs
        )
    return {
        "metrics": metrics,
        "tests": table.print_tests(tests),
        "songs": records,
    }
