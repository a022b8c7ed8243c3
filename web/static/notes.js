// Names of notes, colours of chords, and what a change of one note means for its neighbours.

const NAMES = ["C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B"];
export const SHORTEST = 0.06; // s, of a note that is dragged

export const noteName = (pitch) => `${NAMES[pitch % 12]}${Math.floor(pitch / 12) - 1}`;

export const isBlack = (pitch) => [1, 3, 6, 8, 10].includes(pitch % 12);

export function chordColour(name) {
  const match = /^([A-G](?:#|b)?)(m?)/.exec(name);
  if (!match || name === "N") return "#b9c3c8";
  const root = NAMES.indexOf(match[1]);
  const hue = (root * 7 * 30) % 360; // neighbours on the circle of fifths are neighbours in colour
  return `hsl(${hue} ${match[2] ? 32 : 55}% ${match[2] ? 66 : 76}%)`;
}

export const clock = (seconds) =>
  `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;

// A syllable as it is written: a hyphen says that its word goes on.
export const written = (note) => note.text + (note.text && !note.ends_word ? "-" : "");

// The whole word that a note belongs to, and its sounds.
export function wordOf(notes, index) {
  let first = index;
  while (first > 0 && !notes[first].text) first -= 1;
  const number = notes[first]?.word;
  const parts = notes.filter((note) => note.word === number && number !== null && note.text);
  const sounds = notes.filter((note) => note.word === number && number !== null);
  return {
    text: parts.map((note) => note.text).join(""),
    phonemes: sounds.flatMap((note) => note.phonemes || []).join(" "),
  };
}

export const isGuessed = (notes, index, guessed) =>
  Boolean(notes[index].text) && guessed.includes(wordOf(notes, index).text);

// Take a note out. Its syllable goes to the notes that prolonged it, or ends the word before it.
export function without(notes, index) {
  const left = notes.map((note) => ({ ...note }));
  const [gone] = left.splice(index, 1);
  if (!gone.text) return left;
  const next = left[index];
  if (next && !next.text && !(next.phonemes || []).length) {
    Object.assign(next, { text: gone.text, ends_word: gone.ends_word, word: gone.word });
  } else if (gone.ends_word) {
    for (let i = index - 1; i >= 0; i -= 1) {
      if (!left[i].text) continue;
      left[i].ends_word = true;
      break;
    }
  }
  return left;
}

// Write a syllable under a note; "sun-" goes on in the next one, "" prolongs the one before.
export function reworded(notes, index, text) {
  const changed = notes.map((note) => ({ ...note }));
  const note = changed[index];
  const trimmed = text.trim();
  note.text = trimmed.replace(/-+$/, "");
  note.ends_word = !/-$/.test(trimmed);
  note.phonemes = [];
  return changed;
}

// Move a note, or its end, so that no two begin together; the order follows the time.
export function moved(notes, index, change) {
  const changed = notes.map((note) => ({ ...note }));
  Object.assign(changed[index], change);
  return changed;
}
