"""Music: scores, MIDI and MusicXML, words laid on melodies, harmony and composed melodies."""
