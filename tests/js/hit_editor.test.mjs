// The pure functions of the editor of hits. Run by tests/widgets/test_edit_hits.py, or: node --test tests/js/hit_editor.test.mjs
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

const source = await readFile(new URL("../../v2a_nb/widgets/hit_editor.js", import.meta.url));
const editor = await import(`data:text/javascript;base64,${source.toString("base64")}`);

const HITS = [
  { time_s: 0.5, probability: 0.97, x: 0.2, y: 0.8, level_db: 0, origin: "model" },
  { time_s: 1, probability: 0.3, level_db: 0, origin: "model" },
  { time_s: 1.5, probability: 0.02, level_db: 0, origin: "model" },
];
const times = (made) => made.hits.map((hit) => hit.time_s);

test("a click adds a hit on the grid of 5 ms, in its place, and never two at one time", () => {
  const made = editor.added(HITS, 0.7512, 2);
  assert.deepEqual(times(made), [0.5, 0.75, 1, 1.5]);
  assert.deepEqual(made.hits[made.index], { time_s: 0.75, probability: 1, level_db: 0, origin: "user" });
  assert.equal(editor.added(HITS, 1.001, 2), null);
  assert.equal(times(editor.added(HITS, 9, 2)).at(-1), 1.995, "the last moment of the clip");
  assert.equal(times(editor.added(HITS, -1, 2))[0], 0);
  assert.equal(HITS.length, 3, "nothing is changed in place");
});

test("a moved hit is the user's, and remembers where it was expected", () => {
  const made = editor.changed(HITS, 1, { time_s: 0.2 }, 2);
  assert.deepEqual(times(made), [0.2, 0.5, 1.5]);
  assert.deepEqual(made.hits[made.index], { time_s: 0.2, probability: 1, level_db: 0, origin: "user", moved_from_s: 1 });
  const again = editor.changed(made.hits, made.index, { time_s: 0.3 }, 2);
  assert.equal(again.hits[again.index].moved_from_s, 1);
  assert.equal(editor.changed(HITS, 1, { time_s: 0.5 }, 2), null, "there is one already");
  assert.equal(editor.changed(HITS, 7, { time_s: 0.5 }, 2), null);
  const own = editor.added(HITS, 0.75, 2), moved = editor.changed(own.hits, own.index, { time_s: 0.8 }, 2);
  assert.equal("moved_from_s" in moved.hits[moved.index], false, "the model never expected it");
});

test("levels stay in their range, a confirmed hit stays where it is", () => {
  assert.equal(editor.changed(HITS, 0, { level_db: 99 }, 2).hits[0].level_db, editor.LOUDEST);
  assert.equal(editor.changed(HITS, 0, { level_db: -99 }, 2).hits[0].level_db, editor.SOFTEST);
  const kept = editor.changed(HITS, 2, {}, 2);
  assert.deepEqual(kept.hits[2], { ...HITS[2], probability: 1, origin: "user", moved_from_s: 1.5 });
  assert.deepEqual(times(editor.removed(HITS, 1)), [0.5, 1.5]);
  assert.equal(editor.removed(HITS, 3), null);
  assert.ok(editor.tall(-24) === 0.25 && editor.tall(12) === 1 && editor.tall(0) > editor.tall(-6));
});

test("which hits sound is what Python says", () => {
  assert.deepEqual([0, 0.5, 1].map(editor.leastProbability), [0.99, 0.5, 0]);
  assert.deepEqual([0, 0.5, 0.7, 1].map((s) => HITS.filter((hit) => editor.follows(hit, s)).length), [0, 1, 2, 3]);
  assert.ok(editor.follows({ probability: 0, origin: "user" }, 0));
});

test("the file is JSON with a version", () => {
  const found = JSON.parse(editor.fileText(editor.changed(HITS, 1, { time_s: 0.2 }, 2).hits));
  assert.equal(found.hits_version, 1);
  assert.deepEqual(found.hits.map((hit) => hit.time_s), [0.2, 0.5, 1.5]);
  assert.deepEqual(JSON.parse(editor.fileText([])).hits, []);
});

test("hits in words", () => {
  assert.equal(editor.words(HITS[0], 0.5), "0.500 s, expected with 97 %");
  assert.equal(editor.words(HITS[2], 0.5), "1.500 s, expected with 2 %, doubtful: stays silent");
  assert.equal(editor.words(editor.changed(HITS, 0, { time_s: 0.6, level_db: -6 }, 2).hits[0], 0), "0.600 s, moved from 0.500 s, −6 dB");
  assert.equal(editor.words(editor.changed(HITS, 0, {}, 2).hits[0], 0), "0.500 s, kept");
  assert.equal(editor.words({ time_s: 1, probability: 1, origin: "user" }, 0), "1.000 s, added");
  assert.equal(editor.decibels(1.5), "+1.5 dB");
});

test("keys of a mark; all others are left to the page", () => {
  assert.deepEqual(editor.markKey("ArrowLeft", false), { by: -0.005 });
  assert.deepEqual(editor.markKey("ArrowRight", true), { by: 0.05 });
  assert.deepEqual(editor.markKey("ArrowUp", true), { louder: 6 });
  for (const key of ["Delete", "Backspace", "x"]) assert.deepEqual(editor.markKey(key, false), { remove: true });
  assert.deepEqual(editor.markKey("Enter", false), { keep: true });
  for (const key of [" ", "Tab", "a", "toString"]) assert.equal(editor.markKey(key, false), null);
});

test("labels of the ruler keep their distance", () => {
  assert.equal(editor.spacing(4, 976), 0.5);
  assert.equal(editor.spacing(30, 300), 10);
  assert.equal(editor.spacing(2, 0), 120);
});
