// The page: what is chosen goes to the server, what it answers is shown.

import { get, post, put } from "./api.js";
import { chordColour, clock, noteName, wordOf, written } from "./notes.js";
import { NotePreview, Player, TRACKS } from "./player.js";
import { PianoRoll } from "./roll.js";
import { showStages, showTakes } from "./takes.js";
import { WaveView } from "./wave.js";

const $ = (id) => document.getElementById(id);
const state = { plan: null, takes: [], job: null, lexicon: {}, undo: [], isStale: false };
const POLL = 300; // ms between looks at a rendering
const LOWEST = 36;
const HIGHEST = 96;

function say(error) {
  $("message").textContent = error ? error.message || String(error) : "";
  $("message").hidden = !error;
}

// Run a step; what goes wrong is shown, and the step's button waits.
async function doing(button, step) {
  say(null);
  if (button) button.disabled = true;
  document.body.ariaBusy = "true";
  try {
    return await step();
  } catch (error) {
    say(error);
    return null;
  } finally {
    if (button) button.disabled = false;
    document.body.ariaBusy = "false";
  }
}

function showRemarks(list, remarks) {
  list.replaceChildren(...Object.entries(remarks || {}).flatMap(([kind, texts]) =>
    texts.map((text) => {
      const item = document.createElement("li");
      item.textContent = kind === "note" ? text : `${kind}: ${text}`;
      return item;
    })));
}

// -- 1: words and track -----------------------------------------------------------------------

let reading = 0;
async function readWords() {
  const number = ++reading;
  const lyrics = $("lyrics").value;
  if (!lyrics.trim()) {
    $("words").replaceChildren();
    $("syllables").textContent = "";
    showRemarks($("lyrics-remarks"), {});
    return;
  }
  let read;
  try {
    read = await post("/api/words", { lyrics });
    say(null);
  } catch (error) {
    if (number === reading) say(error);
    return;
  }
  if (number !== reading) return; // typed on meanwhile
  $("syllables").textContent = `${read.syllables} syllables in ${read.lines.length} lines`;
  showRemarks($("lyrics-remarks"), read.remarks);
  $("words").replaceChildren(...read.lines.map((line) => {
    const row = document.createElement("div");
    for (const word of line.words) {
      const span = document.createElement("span");
      span.textContent = word.text;
      span.title = word.is_guessed ? `guessed: ${word.phonemes}` : word.phonemes;
      span.classList.toggle("guessed", word.is_guessed);
      span.addEventListener("click", () => editWord(word.text, word.phonemes));
      row.append(span, " ");
    }
    const count = document.createElement("span");
    count.className = "count";
    count.textContent = line.syllables;
    row.append(count);
    return row;
  }));
}

function editWord(word, phonemes) {
  $("word").textContent = word;
  $("phonemes").value = phonemes;
  $("pronunciation").hidden = false;
  $("phonemes").focus();
}

async function pronounce(word, phonemes) {
  state.lexicon = await post("/api/pronunciation", { word, phonemes });
  await readWords();
  if (state.plan?.notes.length) await sendNotes(state.plan.notes);
}

function showAccompaniment(song) {
  $("analysis").hidden = !song;
  $("strip").replaceChildren();
  $("drop-accompaniment").classList.toggle("full", Boolean(song));
  if (!song) return;
  const { harmony } = song;
  $("accompaniment-name").textContent = song.name;
  $("tempo-found").textContent = `${harmony.tempo.toFixed(1)} bpm, ${harmony.metre}/4`;
  $("key-found").textContent = harmony.key;
  $("length-found").textContent = clock(song.seconds);
  $("strip").replaceChildren(...harmony.chords.map((chord) => {
    const part = document.createElement("span");
    part.style.flexGrow = chord.end - chord.start;
    part.style.flexBasis = "0";
    part.style.background = chordColour(chord.name);
    part.textContent = chord.name === "N" ? "" : chord.name;
    return part;
  }));
}

async function takeAccompaniment(file) {
  $("accompaniment-name").textContent = `${file.name} …`;
  try {
    showAccompaniment(await put("/api/accompaniment", file));
    showPlan(null);
  } catch (error) {
    $("accompaniment-name").textContent = "Drop a recording here, or choose one";
    throw error;
  }
}

function showMelody(melody) {
  if (!melody) return;
  $("melody-name").textContent = `${melody.name}: ${melody.notes} notes, ${melody.syllables} with words`;
  $("drop-melody").classList.add("full");
}

function droppable(zone, input, take) {
  const receive = (file) => file && doing(null, () => take(file));
  input.addEventListener("change", () => receive(input.files[0]));
  zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("over"); });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    receive(event.dataTransfer.files[0]);
  });
  zone.addEventListener("keydown", (event) => { if (event.key === "Enter") input.click(); });
}

// -- 2, 3: melody and plan --------------------------------------------------------------------

const melodyKind = () => document.querySelector("input[name=melody]:checked").value;
const chosenNumber = (id) => ($(id).value === "" ? null : Number($(id).value));

const networks = () => ({
  transformer: $("transformer").value, postnet: $("postnet").value, inpainter: $("inpainter").value,
  mel_inpainter: $("mel_inpainter").value,
});

function melodyFields() {
  const fields = { lyrics: $("lyrics").value, melody: melodyKind(), seed: chosenNumber("seed") ?? 0 };
  if (fields.melody === "none") return { ...fields, ...networks() };
  if (fields.melody === "compose") {
    Object.assign(fields, { low: chosenNumber("low"), high: chosenNumber("high"),
      density: chosenNumber("density"), chords: $("chords").value });
  } else {
    Object.assign(fields, { part: $("part").value, verse: chosenNumber("verse") });
  }
  Object.assign(fields, { tempo: $("tempo").value.trim(), transpose: chosenNumber("transpose") });
  return { ...fields, ...networks() };
}

async function compose() {
  const began = performance.now();
  const plan = await post("/api/plan", melodyFields());
  state.undo = [];
  state.isStale = false;
  $("sing-seed").value = $("seed").value;
  showPlan(plan);
  $("plan-time").textContent = `in ${((performance.now() - began) / 1000).toFixed(1)} s`;
}

function throwDice(id) {
  $(id).value = crypto.getRandomValues(new Uint32Array(1))[0] % 10000;
}

const roll = new PianoRoll($("roll"), {
  onChange: (notes) => doing(null, () => sendNotes(notes, true)),
  onSelect: showNote,
});

async function sendNotes(notes, isUndoable = false) {
  const before = state.plan;
  try {
    const plan = await post("/api/notes", { notes, ...networks() });
    if (isUndoable) state.undo.push(before);
    showPlan(plan);
  } catch (error) {
    showPlan(before);
    throw error;
  }
}

function showPlan(plan) {
  state.plan = plan;
  roll.show(plan);
  const isThere = Boolean(plan);
  const hasNotes = Boolean(plan?.notes.length);
  $("start").disabled = !isThere || isRendering();
  $("again").disabled = !hasNotes;
  $("listen").disabled = !hasNotes;
  $("undo").disabled = !state.undo.length;
  $("plan-file").hidden = !hasNotes;
  showRemarks($("plan-remarks"), plan?.remarks);
  showNote(roll.selected);
  if (!plan) $("plan-state").textContent = "No plan yet: give words and a track, and compose.";
  else if (plan.is_spoken) $("plan-state").textContent = "The words are spoken, without notes.";
  else {
    $("plan-state").textContent = `${plan.notes.length} notes, `
      + `${noteName(plan.lowest)} to ${noteName(plan.highest)}${plan.is_edited ? ", edited" : ""}`;
  }
  showStale();
}

function showStale() {
  if (state.plan && state.isStale) {
    $("plan-state").textContent = "Words or choices above have changed since: plan again to take them in.";
  }
}

function showNote(index) {
  const note = index === null || index === undefined ? null : roll.notes[index];
  $("note").hidden = !note;
  if (!note) return;
  const word = wordOf(roll.notes, index);
  $("note-place").textContent = `${noteName(note.pitch)} `
    + `${note.onset.toFixed(2)}–${note.offset.toFixed(2)} s`;
  $("note-text").value = written(note);
  $("note-phonemes").value = word.phonemes;
  $("note-phonemes").title = word.text ? `of ${word.text}, wherever it is sung` : "";
  $("note-phonemes").disabled = !word.text;
}

async function changeNote() {
  const index = roll.selected;
  const note = roll.notes[index];
  const word = wordOf(roll.notes, index);
  const phonemes = $("note-phonemes").value.trim();
  if ($("note-text").value.trim() !== written(note)) roll.reword(index, $("note-text").value);
  else if (word.text && phonemes !== word.phonemes) await pronounce(word.text, phonemes);
}

const preview = new NotePreview();
function hearNotes() {
  if (preview.isPlaying) {
    preview.stop();
    roll.playhead = null;
    roll.draw();
  } else {
    const from = roll.selected === null ? 0 : roll.notes[roll.selected].onset;
    const first = Math.max(0, (roll.notes[0]?.onset ?? 0) - 0.5);
    preview.play(roll.notes, Math.max(from, first), (place) => {
      roll.playhead = place;
      roll.draw();
      if (place === null) $("listen").textContent = "▶ hear the notes";
    });
  }
  $("listen").textContent = preview.isPlaying ? "■ stop" : "▶ hear the notes";
}

// -- 4: sing ----------------------------------------------------------------------------------

const isRendering = () => ["waiting", "running"].includes(state.job?.state);

async function sing(fields) {
  const { job } = await post("/api/sing", { quality: $("quality").value, ...networks(), ...fields });
  showJob(job);
  await watch();
}

async function watch() {
  while (isRendering()) {
    await new Promise((resolve) => { setTimeout(resolve, POLL); });
    const { job, takes } = await get("/api/job");
    showJob(job);
    if (!isRendering()) newTakes(takes, job.state === "done");
  }
}

function showJob(job) {
  state.job = job;
  $("start").disabled = !state.plan || isRendering();
  $("sing-again").disabled = !wave.regions.length || isRendering();
  $("cancel").hidden = !isRendering();
  $("cancel").disabled = Boolean(job?.cancelling);
  showStages($("stages"), job);
}

// -- 5, 6: listen, sing again, takes ----------------------------------------------------------

const player = new Player({
  onTime: (seconds, isPlaying) => {
    $("clock").textContent = clock(seconds);
    $("play").textContent = isPlaying ? "❚❚" : "▶";
    wave.at(seconds);
  },
  onError: say,
});

const wave = new WaveView($("wave"), {
  onRegions: showRegions,
  onSeek: (seconds) => player.seek(seconds),
});

const takeOf = (number) => state.takes.find((take) => take.number === number);

function newTakes(takes, isNew) {
  state.takes = takes;
  $("listening").hidden = $("takes").hidden = !takes.length;
  const songs = takes.filter((take) => take.files.includes("vocal.wav") || take.files.includes("lyrics.wav"));
  for (const id of ["take-a", "take-b"]) {
    const before = Number($(id).value);
    $(id).replaceChildren(...songs.map((take) => new Option(`take ${take.number}`, take.number)));
    if (songs.some((take) => take.number === before)) $(id).value = before;
  }
  if (isNew && songs.length) { // the new one is heard, the one that it came from is B
    $("take-a").value = songs[0].number;
    $("take-b").value = songs[0].of_take ?? songs[1]?.number ?? songs[0].number;
  }
  showTakes($("take-list"), takes, { onCompare: compare });
  if (songs.length) listenTo();
}

function compare(side, number) {
  $(`take-${side}`).value = number;
  listenTo();
}

async function listenTo() {
  for (const side of ["a", "b"]) {
    const take = takeOf(Number($(`take-${side}`).value));
    if (!take) continue;
    const at = (name) => `/api/takes/${take.number}/${name}`;
    const paths = { vocal: at(take.files.includes("vocal.wav") ? "vocal.wav" : "lyrics.wav") };
    for (const track of ["mix", "draft"]) if (take.files.includes(`${track}.wav`)) paths[track] = at(`${track}.wav`);
    if (take.accompaniment) paths.accompaniment = at("accompaniment");
    player.setTake(side, take.number, paths);
  }
  if (!player.takes.a?.paths.mix) player.mixer.vocal.isMuted = false;
  const side = document.querySelector("input[name=ab]:checked").value;
  player.side = side;
  showMixer();
  await player.settle();
  const take = takeOf(player.takes[side].number);
  const buffer = await player.buffer(side, "vocal");
  wave.show(buffer, take.generated);
  document.body.dataset.wave = take.number; // what the picture shows
}

function showMixer() {
  $("mixer").replaceChildren(...TRACKS.filter((name) => player.takes[player.side]?.paths[name]).map((name) => {
    const row = document.createElement("tr");
    const channel = player.mixer[name];
    const changed = () => { showMixer(); player.settle(); };
    const title = document.createElement("td");
    title.textContent = name;
    const buttons = document.createElement("td");
    for (const [text, key, label] of [["S", "isSolo", "solo"], ["M", "isMuted", "mute"]]) {
      const button = document.createElement("button");
      button.textContent = text;
      button.title = `${label} ${name}`;
      button.dataset.track = `${label}-${name}`;
      button.ariaPressed = String(channel[key]);
      button.addEventListener("click", () => { channel[key] = !channel[key]; changed(); });
      buttons.append(button);
    }
    const fader = document.createElement("input");
    Object.assign(fader, { type: "range", min: -24, max: 6, step: 0.5, value: channel.gain });
    fader.ariaLabel = `level of ${name} in dB`;
    fader.addEventListener("input", () => { channel.gain = Number(fader.value); player.settle(); });
    const level = document.createElement("td");
    level.append(fader);
    row.append(title, buttons, level);
    return row;
  }));
}

// The balance of vocal and track; heard on the two stems, no longer on the finished mix.
function balanced() {
  const value = Number($("balance").value);
  $("balance-shown").textContent = `${value > 0 ? "+" : ""}${value} dB vocal`;
  const { mix, vocal, accompaniment } = player.mixer;
  mix.isMuted = true;
  vocal.isMuted = accompaniment.isMuted = false;
  vocal.gain = value / 2;
  accompaniment.gain = -value / 2;
  showMixer();
  player.settle();
}

function showRegions(regions) {
  $("sing-again").disabled = !regions.length || isRendering();
  if (!regions.length) {
    $("regions").textContent = "Drag over the waveform: one part or several.";
    return;
  }
  $("regions").replaceChildren(...regions.map((region, index) => {
    const part = document.createElement("span");
    part.className = "part";
    const edges = region.map((value, edge) => {
      const input = document.createElement("input");
      Object.assign(input, { type: "number", step: 0.05, min: 0, value });
      input.ariaLabel = edge ? "end in s" : "start in s";
      input.addEventListener("change", () => {
        const parts = wave.regions.map((other) => [...other]);
        parts[index][edge] = Number(input.value);
        wave.mark(parts.filter(([start, end]) => end > start));
      });
      return input;
    });
    const out = document.createElement("button");
    out.textContent = "×";
    out.title = "leave this part as it is";
    out.addEventListener("click", () => wave.mark(wave.regions.filter((_, i) => i !== index)));
    part.append(edges[0], "–", edges[1], "s", out);
    return part;
  }));
}

// -- all of it --------------------------------------------------------------------------------

function fillChoices(start) {
  for (let pitch = LOWEST; pitch <= HIGHEST; pitch += 1) {
    $("low").append(new Option(noteName(pitch), pitch));
    $("high").append(new Option(noteName(pitch), pitch));
  }
  for (const id of ["low", "high"]) {
    $(id).prepend(new Option("auto", ""));
    $(id).value = "";
  }
  for (const [kind, runs] of Object.entries(start.runs)) {
    $(kind).replaceChildren(...runs.map(({ name, step }) =>
      new Option(step === null ? name : `${name}, step ${step}`, name)));
  }
  $("quality").replaceChildren(...start.qualities.map((name) => new Option(name, name)));
  $("quality").value = "standard";
  $("melody-example").append(...start.examples.melodies.map((name) => new Option(name, name)));
  $("example").hidden = !start.examples.accompaniment;
}

function showKind() {
  for (const part of document.querySelectorAll("[data-for]")) {
    part.hidden = !part.dataset.for.split(" ").includes(melodyKind());
  }
}

function connect(start) {
  const click = (id, step) => $(id).addEventListener("click", () => doing($(id), step));
  let timer;
  $("lyrics").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(readWords, 250);
  });
  $("pronunciation").addEventListener("submit", (event) => {
    event.preventDefault();
    doing(null, () => pronounce($("word").textContent, $("phonemes").value));
  });
  click("forget", () => pronounce($("word").textContent, null));
  droppable($("drop-accompaniment"), $("accompaniment"), takeAccompaniment);
  droppable($("drop-melody"), $("melody-file"), async (file) => showMelody(await put("/api/melody", file)));
  click("example", async () => {
    $("lyrics").value = start.examples.lyrics;
    const name = start.examples.accompaniment;
    const [song] = await Promise.all([post("/api/example", { accompaniment: name }), readWords()]);
    showAccompaniment(song);
    showPlan(null);
  });
  $("melody-example").addEventListener("change", () => doing(null, async () => {
    if ($("melody-example").value) {
      showMelody(await post("/api/example", { melody: $("melody-example").value }));
    }
  }));
  for (const radio of document.querySelectorAll("input[name=melody]")) {
    radio.addEventListener("change", showKind);
  }
  for (const id of ["inputs", "melody"]) {
    $(id).addEventListener("input", (event) => {
      if (["phonemes"].includes(event.target.id) || !state.plan) return;
      state.isStale = true;
      showStale();
    });
  }
  click("dice", async () => throwDice("seed"));
  click("compose", compose);
  click("again", async () => { throwDice("seed"); await compose(); });
  click("undo", async () => { await sendNotes(state.undo.pop().notes); });
  $("zoom").addEventListener("input", () => roll.zoom(Number($("zoom").value)));
  $("listen").addEventListener("click", hearNotes);
  $("note").addEventListener("submit", (event) => { event.preventDefault(); doing(null, changeNote); });
  $("note-delete").addEventListener("click", () => roll.remove(roll.selected));
  $("start").addEventListener("click", () => doing(null, () => sing({
    seed: chosenNumber("sing-seed") ?? 0, takes: chosenNumber("takes-count") ?? 1,
  })));
  click("cancel", async () => showJob((await post("/api/job/cancel")).job));
  $("play").addEventListener("click", () => doing(null, async () => {
    await (player.isPlaying ? player.pause() : player.play());
  }));
  for (const id of ["take-a", "take-b"]) $(id).addEventListener("change", () => doing(null, listenTo));
  for (const radio of document.querySelectorAll("input[name=ab]")) {
    radio.addEventListener("change", () => doing(null, listenTo));
  }
  $("balance").addEventListener("input", balanced);
  $("sing-again").addEventListener("click", () => doing(null, async () => {
    const take = player.takes[player.side].number;
    await sing({
      take, regions: wave.regions, words: $("again-words").value, seed: chosenNumber("again-seed") ?? 0,
    });
    throwDice("again-seed");
  }));
}

async function start() {
  const content = await get("/api/state");
  fillChoices(content);
  connect(content);
  showKind();
  state.lexicon = content.lexicon;
  showAccompaniment(content.accompaniment);
  showMelody(content.melody);
  if (content.plan) {
    $("lyrics").value = content.plan.choice.lyrics;
    document.querySelector(`input[name=melody][value=${content.plan.choice.melody}]`).checked = true;
    $("seed").value = content.plan.choice.seed;
    showKind();
    readWords();
  }
  showPlan(content.plan);
  showJob(content.job);
  newTakes(content.takes, content.takes.length > 0);
  document.body.dataset.ready = "true";
  watch().catch(say);
}

window.toplainer = { state, roll, wave, player };
start().catch(say);
