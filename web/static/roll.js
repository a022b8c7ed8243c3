// A piano roll: notes on their pitches, words under them, the chords of the track above.

import { SHORTEST, chordColour, isBlack, isGuessed, moved, noteName, reworded, without, written }
  from "./notes.js";

const LEFT = 34; // px, names of notes
const TOP = 24; // px, the chord strip
const BOTTOM = 16; // px, the time axis
const EDGE = 7; // px from a note's end where it is stretched

export class PianoRoll {
  // onChange(notes): notes were changed by hand; onSelect(index or null)
  constructor(frame, { onChange, onSelect }) {
    this.frame = frame;
    this.onChange = onChange;
    this.onSelect = onSelect;
    this.spacer = document.createElement("div");
    this.spacer.className = "spacer";
    this.canvas = document.createElement("canvas");
    frame.append(this.canvas, this.spacer);
    this.notes = [];
    this.guessed = [];
    this.harmony = null;
    this.seconds = 0;
    this.scale = 95; // px per second
    this.selected = null;
    this.playhead = null;
    this.drag = null;
    frame.addEventListener("scroll", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(frame);
    this.canvas.addEventListener("pointerdown", (event) => this.press(event));
    this.canvas.addEventListener("pointermove", (event) => this.move(event));
    this.canvas.addEventListener("pointerup", (event) => this.release(event));
    this.canvas.addEventListener("pointercancel", () => this.drop());
    this.canvas.addEventListener("dblclick", (event) => this.doubleClick(event));
    frame.addEventListener("keydown", (event) => this.key(event));
  }

  show(plan) {
    const isNew = !this.notes.length;
    this.notes = plan ? plan.notes.map((note) => ({ ...note })) : [];
    this.guessed = plan?.guessed || [];
    this.harmony = plan?.harmony || null;
    this.seconds = plan?.seconds || 0;
    if (this.selected !== null && this.selected >= this.notes.length) this.select(null);
    const pitches = this.notes.map((note) => note.pitch);
    this.low = pitches.length ? Math.min(...pitches) - 4 : 55;
    this.high = pitches.length ? Math.max(...pitches) + 4 : 76;
    this.draw();
    if (isNew && this.notes.length) { // where the singing begins
      this.frame.scrollLeft = (this.notes[0].onset - 0.6) * this.scale;
      this.draw();
    }
  }

  zoom(scale) {
    const middle = (this.frame.scrollLeft + this.width() / 2) / this.scale;
    this.scale = scale;
    this.draw();
    this.frame.scrollLeft = middle * scale - this.width() / 2;
    this.draw();
  }

  width() { return this.frame.clientWidth; }
  height() { return this.frame.clientHeight; }
  row() { return (this.height() - TOP - BOTTOM) / (this.high - this.low + 1); }
  x(seconds) { return LEFT + seconds * this.scale - this.frame.scrollLeft; }
  time(x) { return Math.max(0, (x - LEFT + this.frame.scrollLeft) / this.scale); }
  y(pitch) { return TOP + (this.high - pitch) * this.row(); }

  // The box of a note in px of the window: for tools that point at it.
  box(index) {
    const note = this.notes[index];
    const at = this.canvas.getBoundingClientRect();
    const left = at.left + this.x(note.onset);
    return {
      left, top: at.top + this.y(note.pitch), row: this.row(),
      width: (note.offset - note.onset) * this.scale,
    };
  }

  // The nearest sixteenth of the track's beats.
  snapped(seconds, isFree) {
    const beats = this.harmony?.beats;
    if (isFree || !beats || beats.length < 2) return seconds;
    let place = beats.findIndex((beat) => beat > seconds) - 1;
    if (place === -2) place = beats.length - 2;
    place = Math.max(0, Math.min(place, beats.length - 2));
    const quarter = (beats[place + 1] - beats[place]) / 4;
    return Math.max(0, beats[place] + Math.round((seconds - beats[place]) / quarter) * quarter);
  }

  draw() {
    const width = this.width();
    const height = this.height();
    if (!width) return;
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${height - 1}px`;
    this.spacer.style.width = `${LEFT + this.seconds * this.scale + 40}px`;
    const pen = this.canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    pen.fillStyle = colour("card");
    pen.fillRect(0, 0, width, height);
    this.drawRows(pen, colour);
    this.drawBeats(pen, colour);
    this.notes.forEach((note, index) => this.drawNote(pen, colour, note, index));
    this.drawChords(pen, colour);
    this.drawNames(pen, colour);
    if (this.playhead !== null) {
      pen.fillStyle = colour("fault");
      pen.fillRect(this.x(this.playhead), 0, 1.5, height);
    }
  }

  drawRows(pen, colour) {
    for (let pitch = this.low; pitch <= this.high; pitch += 1) {
      pen.fillStyle = isBlack(pitch) ? colour("paper") : colour("card");
      pen.fillRect(LEFT, this.y(pitch), this.width(), this.row());
    }
  }

  drawBeats(pen, colour) {
    const { beats = [], metre = 4, first_downbeat: first = 0 } = this.harmony || {};
    beats.forEach((beat, index) => {
      const x = this.x(beat);
      if (x < LEFT || x > this.width()) return;
      const isDownbeat = (((index - first) % metre) + metre) % metre === 0;
      pen.fillStyle = colour("line");
      pen.fillRect(x, TOP, isDownbeat ? 1.5 : 0.5, this.height() - TOP - BOTTOM);
    });
    pen.fillStyle = colour("soft");
    pen.font = "10.5px system-ui, sans-serif";
    const every = [1, 2, 5, 10, 30, 60].find((step) => step * this.scale > 45) || 60;
    for (let time = 0; time <= this.seconds; time += every) {
      const x = this.x(time);
      if (x >= LEFT && x < this.width()) pen.fillText(`${time} s`, x + 2, this.height() - 4);
    }
  }

  drawNote(pen, colour, note, index) {
    const x = this.x(note.onset);
    const width = Math.max(3, (note.offset - note.onset) * this.scale - 1.5);
    if (x + width < LEFT || x > this.width()) return;
    const y = this.y(note.pitch);
    const guessed = isGuessed(this.notes, index, this.guessed);
    pen.save();
    pen.beginPath();
    pen.rect(LEFT, TOP, this.width(), this.height());
    pen.clip();
    pen.fillStyle = guessed ? colour("guess") : colour("note");
    pen.globalAlpha = note.text ? 1 : 0.7;
    pen.beginPath();
    pen.roundRect(x, y + 0.5, width, Math.max(4, this.row() - 1), 3);
    pen.fill();
    pen.globalAlpha = 1;
    if (index === this.selected) {
      pen.strokeStyle = colour("ink");
      pen.lineWidth = 2;
      pen.stroke();
    }
    if (note.text) {
      const text = written(note);
      pen.font = "12px system-ui, sans-serif";
      pen.fillStyle = colour("ink");
      pen.fillText(text, x + 1, y + this.row() + 11);
      if (guessed) pen.fillRect(x + 1, y + this.row() + 13, pen.measureText(text).width, 1);
    }
    pen.restore();
  }

  drawChords(pen, colour) {
    pen.fillStyle = colour("card");
    pen.fillRect(0, 0, this.width(), TOP);
    for (const chord of this.harmony?.chords || []) {
      const x = Math.max(LEFT, this.x(chord.start));
      const end = Math.min(this.width(), this.x(chord.end));
      if (end <= LEFT || x >= this.width()) continue;
      pen.fillStyle = chordColour(chord.name);
      pen.fillRect(x, 2, end - x - 1.5, TOP - 5);
      pen.fillStyle = "#12262a";
      pen.font = "600 12px system-ui, sans-serif";
      if (chord.name !== "N" && end - x > 14) pen.fillText(chord.name, x + 4, 16);
    }
  }

  drawNames(pen, colour) {
    pen.fillStyle = colour("card");
    pen.fillRect(0, TOP, LEFT, this.height());
    pen.fillStyle = colour("soft");
    pen.font = "10.5px system-ui, sans-serif";
    const each = this.row() < 11 ? [0, 7] : [0, 2, 4, 5, 7, 9, 11];
    for (let pitch = this.low; pitch <= this.high; pitch += 1) {
      if (each.includes(pitch % 12)) pen.fillText(noteName(pitch), 5, this.y(pitch) + this.row() - 1);
    }
  }

  // -- by hand ------------------------------------------------------------------------------

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    for (let index = this.notes.length - 1; index >= 0; index -= 1) {
      const note = this.notes[index];
      const [left, right] = [this.x(note.onset), this.x(note.offset)];
      const top = this.y(note.pitch);
      if (x >= left && x <= Math.max(right, left + 5) && y >= top && y <= top + this.row()) {
        return { index, isEdge: right - x < EDGE && right - left > 2 * EDGE, x, y };
      }
    }
    return { index: null, x, y };
  }

  select(index) {
    this.selected = index;
    this.onSelect(index);
    this.draw();
  }

  press(event) {
    if (event.button || !this.notes.length) return;
    this.frame.focus({ preventScroll: true });
    const { index, isEdge, x, y } = this.at(event);
    this.select(index);
    if (index === null) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.drag = { index, isEdge, x, y, note: { ...this.notes[index] }, before: this.notes };
  }

  move(event) {
    if (!this.drag) {
      const { index, isEdge } = this.at(event);
      this.canvas.style.cursor = index === null ? "default" : isEdge ? "ew-resize" : "move";
      return;
    }
    const { index, isEdge, note, before } = this.drag;
    const box = this.canvas.getBoundingClientRect();
    const later = (event.clientX - box.left - this.drag.x) / this.scale;
    const higher = Math.round((this.drag.y - (event.clientY - box.top)) / this.row());
    let change;
    if (isEdge) {
      const end = this.snapped(note.offset + later, event.shiftKey);
      change = { offset: Math.max(note.onset + SHORTEST, end) };
    } else {
      // A move up or down alone keeps the time to the sample.
      const onset = Math.abs(later * this.scale) < 4
        ? note.onset : this.snapped(note.onset + later, event.shiftKey);
      const pitch = Math.min(127, Math.max(1, note.pitch + higher));
      change = { pitch, onset, offset: onset + note.offset - note.onset };
    }
    this.notes = moved(before, index, change);
    this.draw();
  }

  release() {
    if (!this.drag) return;
    const { index, note } = this.drag;
    const now = this.notes[index];
    this.drag = null;
    const isChanged = ["pitch", "onset", "offset"].some((name) => now[name] !== note[name]);
    if (isChanged) this.changed(this.notes, now);
  }

  drop() {
    if (this.drag) this.notes = this.drag.before;
    this.drag = null;
    this.draw();
  }

  // Hand over changed notes in time; the selection follows `kept`.
  changed(notes, kept = null) {
    const sorted = [...notes].sort((a, b) => a.onset - b.onset);
    this.notes = sorted;
    this.selected = kept ? sorted.indexOf(kept) : null;
    this.draw();
    this.onChange(sorted);
    this.onSelect(this.selected);
  }

  doubleClick(event) {
    if (!this.seconds) return;
    const { index, x, y } = this.at(event);
    if (index !== null) {
      this.edit(index);
      return;
    }
    const onset = this.snapped(this.time(x), event.shiftKey);
    const beats = this.harmony?.beats || [];
    const half = beats.length > 1 ? (beats[1] - beats[0]) / 2 : 0.25;
    const before = this.notes.filter((note) => note.onset <= onset).pop();
    const note = {
      pitch: Math.floor(this.high - (y - TOP) / this.row() + 1), onset, offset: onset + half,
      text: "la", ends_word: true, phonemes: [], word: null, line: before ? before.line : 0,
    };
    this.changed([...this.notes, note], note);
  }

  edit(index) {
    const note = this.notes[index];
    const input = document.createElement("input");
    input.value = written(note);
    input.style.left = `${this.x(note.onset) + this.frame.scrollLeft}px`;
    input.style.top = `${Math.min(this.y(note.pitch) + this.row(), this.height() - 30)}px`;
    this.frame.append(input);
    input.select();
    let isOver = false;
    const end = (isKept) => {
      if (isOver) return;
      isOver = true;
      const text = input.value;
      input.remove();
      if (isKept && text !== written(note)) this.reword(index, text);
    };
    input.addEventListener("blur", () => end(true));
    input.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Enter") end(true);
      if (event.key === "Escape") end(false);
    });
  }

  reword(index, text) {
    const notes = reworded(this.notes, index, text);
    this.changed(notes, notes[index]);
  }

  remove(index) {
    this.changed(without(this.notes, index));
  }

  key(event) {
    if (this.selected === null || event.target !== this.frame) return;
    const index = this.selected;
    const note = this.notes[index];
    const step = event.shiftKey ? 0.02 : this.snapped(note.onset + 0.13, false) - note.onset || 0.1;
    const changes = {
      ArrowUp: { pitch: Math.min(127, note.pitch + 1) },
      ArrowDown: { pitch: Math.max(1, note.pitch - 1) },
      ArrowRight: { onset: note.onset + step, offset: note.offset + step },
      ArrowLeft: { onset: Math.max(0, note.onset - step), offset: note.offset - step },
    };
    if (event.key in changes) {
      const notes = moved(this.notes, index, changes[event.key]);
      this.changed(notes, notes[index]);
    } else if (event.key === "Delete" || event.key === "Backspace") {
      this.remove(index);
    } else if (event.key === "Enter") {
      this.edit(index);
    } else {
      return;
    }
    event.preventDefault();
  }
}
