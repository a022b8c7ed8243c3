// Waveform and spectrogram of a vocal, and the parts of it that are marked by dragging.

const CLICK = 4; // px; less than that is a click, which moves the playhead
const SHORTEST = 0.1; // s, of a part
const EDGE = 6; // px
const SIZE = 1024; // samples of a spectrum
const RANGE = 75; // dB below the loudest that are drawn
const HIGHEST = 8000; // Hz

export class WaveView {
  // onRegions(regions): parts were marked; onSeek(seconds)
  constructor(frame, { onRegions, onSeek }) {
    this.frame = frame;
    this.onRegions = onRegions;
    this.onSeek = onSeek;
    this.picture = document.createElement("canvas"); // the sound, drawn once
    this.layer = document.createElement("canvas"); // parts and playhead
    frame.append(this.picture, this.layer);
    this.buffer = null;
    this.regions = [];
    this.generated = [];
    this.place = 0;
    this.drag = null;
    new ResizeObserver(() => this.drawSound()).observe(frame);
    this.layer.addEventListener("pointerdown", (event) => this.press(event));
    this.layer.addEventListener("pointermove", (event) => this.move(event));
    this.layer.addEventListener("pointerup", (event) => this.release(event));
    this.layer.addEventListener("pointercancel", () => { this.drag = null; this.draw(); });
  }

  get seconds() { return this.buffer ? this.buffer.duration : 0; }
  x(seconds) { return (seconds / this.seconds) * this.frame.clientWidth; }

  show(buffer, generated) {
    this.buffer = buffer;
    this.generated = generated;
    this.drawSound();
  }

  mark(regions) {
    this.regions = joined(regions);
    this.draw();
    this.onRegions(this.regions);
  }

  pen(canvas) {
    const ratio = window.devicePixelRatio || 1;
    canvas.width = this.frame.clientWidth * ratio;
    canvas.height = this.frame.clientHeight * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    return pen;
  }

  drawSound() {
    const [width, height] = [this.frame.clientWidth, this.frame.clientHeight];
    if (!this.buffer || !width) return;
    const pen = this.pen(this.picture);
    const style = getComputedStyle(document.documentElement);
    pen.fillStyle = style.getPropertyValue("--paper");
    pen.fillRect(0, 0, width, height);
    const half = Math.round(height * 0.45);
    const samples = this.buffer.getChannelData(0);
    pen.fillStyle = style.getPropertyValue("--wave");
    const each = samples.length / width;
    let loudest = 0.05;
    for (let i = 0; i < samples.length; i += 7) loudest = Math.max(loudest, Math.abs(samples[i]));
    for (let column = 0; column < width; column += 1) {
      let [low, high] = [0, 0];
      const end = Math.min(samples.length, Math.floor((column + 1) * each));
      const step = Math.max(1, Math.floor(each / 200));
      for (let i = Math.floor(column * each); i < end; i += step) {
        low = Math.min(low, samples[i]);
        high = Math.max(high, samples[i]);
      }
      const [top, bottom] = [high, low].map((v) => half / 2 - (v / loudest) * (half / 2 - 2));
      pen.fillRect(column, top, 1, Math.max(1, bottom - top));
    }
    const image = spectrogram(samples, this.buffer.sampleRate, width, height - half - 2);
    const copy = document.createElement("canvas");
    [copy.width, copy.height] = [image.width, image.height];
    copy.getContext("2d").putImageData(image, 0, 0);
    pen.drawImage(copy, 0, half + 2, width, height - half - 2);
    this.draw();
  }

  draw() {
    const height = this.frame.clientHeight;
    const pen = this.pen(this.layer);
    if (!this.buffer) return;
    const style = getComputedStyle(document.documentElement);
    pen.fillStyle = style.getPropertyValue("--main");
    for (const [start, end] of this.generated) {
      if (end - start > this.seconds - 0.05) continue; // all of it
      pen.fillRect(this.x(start), height - 4, this.x(end) - this.x(start), 4);
    }
    const shown = this.drag?.region ? [...this.regions, this.drag.region] : this.regions;
    for (const [start, end] of shown) {
      pen.globalAlpha = 0.35;
      pen.fillStyle = style.getPropertyValue("--part");
      pen.fillRect(this.x(start), 0, this.x(end) - this.x(start), height);
      pen.globalAlpha = 1;
      pen.fillRect(this.x(start), 0, 2, height);
      pen.fillRect(this.x(end) - 2, 0, 2, height);
    }
    pen.fillStyle = style.getPropertyValue("--fault");
    pen.fillRect(this.x(this.place), 0, 1.5, height);
  }

  at(seconds) {
    this.place = seconds;
    this.draw();
  }

  time(event) {
    const box = this.layer.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    return Math.min(Math.max(0, share * this.seconds), this.seconds);
  }

  press(event) {
    if (event.button || !this.buffer) return;
    this.layer.setPointerCapture(event.pointerId);
    const time = this.time(event);
    const near = (EDGE / this.frame.clientWidth) * this.seconds;
    const index = this.regions.findIndex((part) => part.some((edge) => Math.abs(edge - time) < near));
    if (index >= 0) { // an edge of a part: its other one stays
      const [start, end] = this.regions[index];
      const anchor = Math.abs(start - time) < Math.abs(end - time) ? end : start;
      this.regions = this.regions.filter((_, i) => i !== index);
      this.drag = { anchor, x: event.clientX, region: [start, end], isEdge: true };
    } else {
      this.drag = { anchor: time, x: event.clientX, region: null };
    }
  }

  move(event) {
    if (!this.drag) return;
    if (!this.drag.region && Math.abs(event.clientX - this.drag.x) < CLICK) return;
    this.drag.region = [this.drag.anchor, this.time(event)].sort((a, b) => a - b);
    this.draw();
  }

  release(event) {
    if (!this.drag) return;
    const { region } = this.drag;
    this.drag = null;
    if (!region) {
      this.onSeek(this.time(event));
      return;
    }
    this.mark(region[1] - region[0] < SHORTEST ? this.regions : [...this.regions, region]);
  }
}

// Parts in time, rounded to milliseconds; those that meet are one.
export function joined(regions) {
  const parts = [];
  for (const [start, end] of [...regions].sort((a, b) => a[0] - b[0])) {
    const last = parts[parts.length - 1];
    if (last && start <= last[1]) last[1] = Math.max(last[1], end);
    else parts.push([Math.round(start * 1000) / 1000, Math.round(end * 1000) / 1000]);
  }
  return parts;
}

// One spectrum per column, Hann window, decibels as colours; low frequencies at the bottom.
function spectrogram(samples, rate, columns, rows) {
  const image = new ImageData(Math.max(1, columns), Math.max(1, rows));
  const window_ = Float32Array.from({ length: SIZE }, (_, i) =>
    0.5 - 0.5 * Math.cos((2 * Math.PI * i) / SIZE));
  const levels = new Float32Array(columns * rows);
  const top = Math.min(HIGHEST, rate / 2);
  let loudest = -Infinity;
  for (let column = 0; column < columns; column += 1) {
    const centre = Math.floor(((column + 0.5) / columns) * samples.length);
    const real = new Float32Array(SIZE);
    const imaginary = new Float32Array(SIZE);
    for (let i = 0; i < SIZE; i += 1) real[i] = (samples[centre - SIZE / 2 + i] || 0) * window_[i];
    transform(real, imaginary);
    for (let row = 0; row < rows; row += 1) {
      const bin = Math.round((((rows - row) / rows) * top * SIZE) / rate);
      const level = 10 * Math.log10(real[bin] ** 2 + imaginary[bin] ** 2 + 1e-12);
      levels[row * columns + column] = level;
      loudest = Math.max(loudest, level);
    }
  }
  for (let i = 0; i < levels.length; i += 1) {
    const value = Math.min(1, Math.max(0, 1 + (levels[i] - loudest) / RANGE));
    image.data.set([
      255 * Math.min(1, Math.max(0, 2.6 * value - 1.2)), 255 * value ** 1.6,
      255 * (0.22 + 0.5 * value * (1 - 0.6 * value)), 255,
    ], 4 * i);
  }
  return image;
}

// The fast Fourier transform of Cooley and Tukey, in place; the length is a power of two.
function transform(real, imaginary) {
  const count = real.length;
  for (let i = 1, j = 0; i < count; i += 1) {
    let bit = count >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [real[i], real[j]] = [real[j], real[i]];
      [imaginary[i], imaginary[j]] = [imaginary[j], imaginary[i]];
    }
  }
  for (let size = 2; size <= count; size <<= 1) {
    const angle = (-2 * Math.PI) / size;
    for (let k = 0; k < size / 2; k += 1) {
      const [c, s] = [Math.cos(angle * k), Math.sin(angle * k)];
      for (let i = k; i < count; i += size) {
        const j = i + size / 2;
        const [re, im] = [real[j] * c - imaginary[j] * s, real[j] * s + imaginary[j] * c];
        [real[j], imaginary[j]] = [real[i] - re, imaginary[i] - im];
        real[i] += re;
        imaginary[i] += im;
      }
    }
  }
}
