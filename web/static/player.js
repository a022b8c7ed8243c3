// Takes side by side: every track of take A and of take B runs in step, gains choose what is heard.

import { sound } from "./api.js";

export const TRACKS = ["mix", "vocal", "draft", "accompaniment"];
const FADE = 0.01; // s, of a gain: no clicks

export class Player {
  // onTime(seconds, isPlaying): the place moved; onError(error)
  constructor({ onTime, onError }) {
    this.onTime = onTime;
    this.onError = onError;
    this.context = null;
    this.takes = { a: null, b: null }; // {number, paths, buffers}
    this.side = "a";
    this.mixer = Object.fromEntries(
      TRACKS.map((name) => [name, { gain: 0, isMuted: name !== "mix", isSolo: false }]),
    );
    this.sources = [];
    this.startedAt = 0;
    this.offset = 0;
    this.isPlaying = false;
  }

  open() {
    if (!this.context) this.context = new AudioContext();
    return this.context;
  }

  // paths: track → address. Sounds are fetched when they are heard for the first time.
  setTake(side, number, paths) {
    if (this.takes[side]?.number === number) return;
    const other = this.takes[side === "a" ? "b" : "a"];
    const buffers = other?.number === number ? other.buffers : {};
    this.takes[side] = { number, paths, buffers };
    if (this.isPlaying) this.restart();
  }

  buffer(side, track) {
    const take = this.takes[side];
    if (!take?.paths[track]) return null;
    take.buffers[track] ||= sound(take.paths[track], this.open()).catch((error) => {
      delete take.buffers[track];
      throw error;
    });
    return take.buffers[track];
  }

  level(side, track) {
    const row = this.mixer[track];
    const isAnySolo = TRACKS.some((name) => this.mixer[name].isSolo);
    const isHeard = isAnySolo ? row.isSolo : !row.isMuted;
    return side === this.side && isHeard ? 10 ** (row.gain / 20) : 0;
  }

  // Bring all gains where the mixer has them; start tracks that were silent so far.
  async settle() {
    const now = this.context?.currentTime || 0;
    for (const source of this.sources) {
      source.gain.gain.setTargetAtTime(this.level(source.side, source.track), now, FADE);
    }
    if (!this.isPlaying) return;
    const missing = this.wanted().filter(
      ([side, track]) => !this.sources.some((s) => s.side === side && s.track === track),
    );
    for (const [side, track] of missing) await this.begin(side, track);
  }

  wanted() {
    return ["a", "b"].flatMap((side) =>
      TRACKS.filter((track) => this.takes[side]?.paths[track] && this.isNeeded(track))
        .map((track) => [side, track]));
  }

  isNeeded(track) {
    const isAnySolo = TRACKS.some((name) => this.mixer[name].isSolo);
    return isAnySolo ? this.mixer[track].isSolo : !this.mixer[track].isMuted;
  }

  async begin(side, track) {
    let buffer;
    try {
      buffer = await this.buffer(side, track);
    } catch (error) {
      this.onError(error);
      return;
    }
    if (!buffer || !this.isPlaying) return;
    if (this.sources.some((s) => s.side === side && s.track === track)) return;
    const node = this.context.createBufferSource();
    const gain = this.context.createGain();
    node.buffer = buffer;
    gain.gain.value = this.level(side, track);
    node.connect(gain).connect(this.context.destination);
    const start = this.context.currentTime + 0.03;
    node.start(start, Math.max(0, this.place() + 0.03));
    this.sources.push({ side, track, node, gain });
  }

  async play() {
    await this.open().resume();
    // Fetched before the clock starts, so that all begin together.
    await Promise.all(this.wanted().map(([side, track]) =>
      this.buffer(side, track).catch((error) => this.onError(error))));
    this.startedAt = this.context.currentTime;
    this.isPlaying = true;
    await this.settle();
    this.tick();
  }

  pause() {
    this.offset = this.place();
    this.stopSources();
    this.isPlaying = false;
    this.onTime(this.offset, false);
  }

  restart() {
    const wasPlaying = this.isPlaying;
    if (wasPlaying) this.pause();
    if (wasPlaying) this.play();
  }

  stopSources() {
    for (const { node } of this.sources) node.stop();
    this.sources = [];
  }

  seek(seconds) {
    const wasPlaying = this.isPlaying;
    if (wasPlaying) this.pause();
    this.offset = Math.max(0, seconds);
    this.onTime(this.offset, false);
    if (wasPlaying) this.play();
  }

  place() {
    return this.isPlaying ? this.offset + this.context.currentTime - this.startedAt : this.offset;
  }

  tick() {
    if (!this.isPlaying) return;
    const end = Math.max(0, ...this.sources.map(({ node }) => node.buffer.duration));
    if (end && this.place() >= end) {
      this.pause();
      this.seek(0);
      return;
    }
    this.onTime(this.place(), true);
    requestAnimationFrame(() => this.tick());
  }
}

// The notes of a plan as plain tones: what it will be, before it is sung.
export class NotePreview {
  constructor() {
    this.context = null;
    this.isPlaying = false;
  }

  async play(notes, from, onTime) {
    this.context = new AudioContext();
    await this.context.resume();
    this.isPlaying = true;
    const begin = this.context.currentTime + 0.05 - from;
    const volume = this.context.createGain();
    volume.gain.value = 0.12;
    volume.connect(this.context.destination);
    for (const note of notes.filter((n) => n.offset > from)) {
      const tone = this.context.createOscillator();
      const gain = this.context.createGain();
      tone.type = "triangle";
      tone.frequency.value = 440 * 2 ** ((note.pitch - 69) / 12);
      const start = Math.max(begin + note.onset, this.context.currentTime);
      const end = begin + note.offset;
      gain.gain.setValueAtTime(0, start);
      gain.gain.linearRampToValueAtTime(1, start + 0.015);
      gain.gain.setValueAtTime(1, Math.max(start + 0.015, end - 0.03));
      gain.gain.linearRampToValueAtTime(0, end);
      tone.connect(gain).connect(volume);
      tone.start(start);
      tone.stop(end);
    }
    const last = Math.max(0, ...notes.map((note) => note.offset));
    const tick = () => {
      if (!this.isPlaying) return;
      const place = this.context.currentTime - begin;
      if (place > last + 0.1) {
        this.stop();
        onTime(null);
        return;
      }
      onTime(place);
      requestAnimationFrame(tick);
    };
    tick();
  }

  stop() {
    this.isPlaying = false;
    this.context?.close();
    this.context = null;
  }
}
