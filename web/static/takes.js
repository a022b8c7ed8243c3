// The progress of a rendering, and the list of takes with their scores and files.

const TITLES = {
  load: "loading", melody: "melody", draft: "voice", voice: "voice", inpaint: "inpainter",
  mix: "mixing, writing",
};
const FILES = {
  "mix.wav": "mix", "vocal.wav": "vocal", "draft.wav": "draft", "lyrics.wav": "speech",
  "topline.mid": "MIDI", "topline.musicxml": "MusicXML", "report.json": "report",
};
const INPUTS = { "plan.mid": "plan.mid", "lyrics.txt": "lyrics.txt", "lexicon.txt": "lexicon.txt" };

function element(name, content = "", className = "") {
  const made = document.createElement(name);
  if (typeof content === "string") made.textContent = content;
  else made.append(...content);
  if (className) made.className = className;
  return made;
}

export function showStages(list, job) {
  if (!job) {
    list.replaceChildren();
    return;
  }
  // The voice is the part of the draft that takes its time.
  const hasVoice = job.stages.some(({ stage }) => stage === "voice");
  const stages = job.stages.filter(({ stage }) => stage !== "draft" || !hasVoice);
  const items = stages.map((stage, index) => {
    const isLast = index === stages.length - 1;
    const bar = element("progress");
    bar.max = 1;
    if (!isLast || job.state === "done") bar.value = 1;
    else if (stage.total) bar.value = stage.done / stage.total;
    else if (job.state !== "running") bar.value = 0;
    const count = stage.total ? ` ${stage.done}/${stage.total} ${stage.unit}${stage.total === 1 ? "" : "s"}` : "";
    return element("li", [`${TITLES[stage.stage] || stage.stage}${count} `, bar,
      `${stage.seconds.toFixed(1)} s`]);
  });
  const said = {
    waiting: job.ahead ? `waiting: ${job.ahead} renderings are before it` : "waiting",
    running: job.cancelling ? "stopping at the next step …" : "",
    cancelled: "cancelled; nothing was written",
    failed: job.error,
    done: `done in ${job.seconds.toFixed(1)} s`,
  }[job.state];
  if (said) items.push(element("li", said, job.state));
  list.dataset.state = job.state;
  list.replaceChildren(...items);
}

function scoresOf({ scores, kept, seed, remarks }) {
  const parts = [`seed ${seed}`];
  if (scores.best) {
    const { score, scores: each } = scores.best;
    const shown = Object.entries(each).map(([name, value]) => `${name} ${(100 * value).toFixed(0)}`);
    parts.push(`best of ${scores.takes}: ${(100 * score).toFixed(0)} of 100 (${shown.join(", ")})`);
  }
  const skipped = scores.skipped_words.length;
  parts.push(skipped ? `${skipped} of ${scores.words} words skipped: ${scores.skipped_words.join(", ")}`
    : `all ${scores.words} words read`);
  if (scores.repeated_words.length) parts.push(`repeated: ${scores.repeated_words.join(", ")}`);
  if (scores.clipped_samples) parts.push(`${scores.clipped_samples} samples clipped`);
  const line = element("div", parts.join(" · "), "scores");
  if (kept) {
    line.append(" · ", kept.are_equal
      ? element("span", `${kept.samples} samples outside: the same bit by bit`, "kept")
      : element("span", "samples outside have changed: please report this", "broken"));
  }
  for (const [kind, texts] of Object.entries(remarks || {})) {
    for (const text of texts) line.append(element("div", kind === "note" ? text : `${kind}: ${text}`));
  }
  return line;
}

function links(take) {
  const row = element("div", [], "links");
  for (const [names, titles] of [[take.files, FILES], [take.inputs, INPUTS]]) {
    for (const name of names.filter((one) => one in titles)) {
      const link = element("a", titles[name]);
      link.href = `/api/takes/${take.number}/${name}`;
      link.download = name in INPUTS ? name : `take-${take.number}-${name}`;
      row.append(link);
    }
  }
  return row;
}

export function showTakes(list, takes, { onCompare }) {
  list.replaceChildren(...takes.map((take) => {
    const box = element("article", [], "take");
    box.dataset.take = take.number;
    const heading = element("h3", `Take ${take.number}: ${take.title}`);
    const buttons = element("span", ["a", "b"].map((side) => {
      const button = element("button", `as ${side.toUpperCase()}`);
      button.addEventListener("click", () => onCompare(side, take.number));
      return button;
    }));
    const command = element("code", take.command);
    command.title = "the same from the shell, beside the files above; click copies it";
    command.addEventListener("click", () => navigator.clipboard?.writeText(take.command));
    box.append(heading, buttons, scoresOf(take), links(take), command);
    if (take.files.includes("song.png")) {
      const picture = element("details", [element("summary", "picture")]);
      picture.addEventListener("toggle", () => { // fetched when it is looked at
        if (picture.children.length > 1) return;
        const image = element("img");
        image.src = `/api/takes/${take.number}/song.png`;
        image.alt = "chords, notes, words, waveforms and spectrograms";
        picture.append(image);
      });
      box.append(picture);
    }
    return box;
  }));
}
