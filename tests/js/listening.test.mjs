// The pure functions of the listening test. Run by tests/test_listening.py, or: node --test tests/js/listening.test.mjs
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

const source = await readFile(new URL("../../v2a_nb/widgets/listening.js", import.meta.url));
const it = await import(`data:text/javascript;base64,${source.toString("base64")}`);

test("letters play, digits answer, other keys are the page's", () => {
  assert.deepEqual(it.command("c", 5), { do: "hear", index: 2 });
  assert.deepEqual(it.command("E", 5), { do: "hear", index: 4 });
  assert.equal(it.command("f", 5), null);
  assert.deepEqual(it.command("7", 5), { do: "digit", digit: 7 });
  assert.deepEqual(it.command("Enter", 5), { do: "confirm" });
  assert.deepEqual(it.command(" ", 5), { do: "toggle" });
  for (const key of ["Tab", "F5", "Escape", "End", "?"]) assert.equal(it.command(key, 9), null);
});

test("typed digits stay from 1 to 100", () => {
  const type = (text) => [...text].reduce((value, d) => it.typed(value, Number(d)), 0);
  assert.deepEqual(["7", "75", "100", "07", "0", "101", "999", "1005"].map(type), [7, 75, 100, 7, 0, 1, 9, 5]);
});

test("one choice replaces, several add and take out", () => {
  assert.equal(it.chosen("A", "C", false), "C");
  assert.equal(it.chosen("C", "A", true), "AC");
  assert.equal(it.chosen("AC", "C", true), "A");
});

test("answers of two tabs come together: the first of each trial, in order", () => {
  const record = (trial, seconds) => ({ trial, seconds });
  assert.deepEqual(it.together([record(2, 1), record(1, 2)], [record(3, 3), record(1, 4)]), [record(1, 2), record(2, 1), record(3, 3)]);
  assert.deepEqual(it.together([], []), []);
});

test("what a trial needs", () => {
  assert.deepEqual(it.wanted("choose", ["p", "a"], 5), [["p", ""], ["a", ""]]);
  assert.deepEqual(it.wanted("rate", ["p", "a"], 2), [["p", "A"], ["a", "A"], ["p", "B"], ["a", "B"]]);
});

test("the CSV holds any name, and ends in a line's end", () => {
  const spec = { test: "t1", listener: 'Ann, "B" =1', kind: "choose" };
  const record = { trial: 2, seconds: 3.14159, time: "2026-01-01T00:00:00+00:00", answers: [["plausible", "", "C"]] };
  assert.equal(it.csv(spec, [record]),
    "test,listener,trial,question,candidate,answer,seconds,time\n" +
    't1,"Ann, ""B"" =1",2,plausible,,C,3.1,2026-01-01T00:00:00+00:00\n');
});

test("a file name has letters and digits only", () => {
  assert.equal(it.fileName('../a"<b>\u202e: é'), "answers-a-b-é.csv");
  assert.equal(it.fileName("<>"), "answers-listener.csv");
});

test("the picture follows the sound", () => {
  assert.deepEqual(it.follow(0.5, true), { seek: true, rate: 1 });
  assert.deepEqual(it.follow(0.01, true), { seek: false, rate: 1 });
  assert.ok(it.follow(0.1, true).rate > 1 && it.follow(-0.1, true).rate < 1);
  assert.equal(it.follow(0.05, false).seek, true);
});

test("letters in words", () => {
  assert.equal(it.list(["A"]), "A");
  assert.equal(it.list(["A", "B", "D"]), "A, B and D");
});
