// The pure functions of the player. Run by tests/test_player.py, or: node --test tests/js/player.test.mjs
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

// as a data URL, so that it is a module whatever this version of node takes a .js file for
const source = await readFile(new URL("../../v2a_nb/widgets/player.js", import.meta.url));
const player = await import(`data:text/javascript;base64,${source.toString("base64")}`);

test("time and place are inverse inside the plot and clamped outside", () => {
  for (const t of [0, 0.3, 1.28, 2.56]) assert.ok(Math.abs(player.xToTime(player.timeToX(t, 2.56, 700), 2.56, 700) - t) < 1e-9);
  assert.equal(player.timeToX(9, 2.56, 700), 700);
  assert.equal(player.timeToX(1, 0, 700), 0);
  assert.equal(player.xToTime(-5, 2.56, 700), 0);
  assert.equal(player.xToTime(800, 2.56, 700), 2.56);
  assert.equal(player.xToTime(1, 2.56, 0), 0);
});

test("the clock cuts and never shows sixty seconds", () => {
  assert.equal(player.clock(0), "0:00.00");
  assert.equal(player.clock(2.5), "0:02.50");
  assert.equal(player.clock(0.29), "0:00.29");
  assert.equal(player.clock(59.999), "0:59.99");
  assert.equal(player.clock(61.234), "1:01.23");
  assert.equal(player.clock(-1), "0:00.00");
});

test("bytes survive base64, signed and unsigned", () => {
  const base64 = Buffer.from([0, 127, 128, 255]).toString("base64");
  assert.deepEqual([...player.decodeU8(base64)], [0, 127, 128, 255]);
  assert.deepEqual([...player.decodeI8(base64)], [0, 127, -128, -1]);
});

test("keys", () => {
  assert.deepEqual(player.command(" ", false, 2), { do: "toggle" });
  assert.deepEqual(player.command("ArrowLeft", false, 2), { do: "by", seconds: -0.1 });
  assert.deepEqual(player.command("ArrowRight", true, 2), { do: "by", seconds: 1 });
  assert.deepEqual(player.command(",", false, 2), { do: "frame", step: -1 });
  assert.deepEqual(player.command("Home", false, 2), { do: "to", share: 0 });
  assert.deepEqual(player.command("End", false, 2), { do: "to", share: 1 });
  assert.deepEqual(player.command("M", false, 2), { do: "mute" });
  assert.deepEqual(player.command("2", false, 2), { do: "track", index: 1 });
  assert.deepEqual(player.command("i", false, 2), { do: "edge", which: "in" });
  assert.deepEqual(player.command("O", true, 2), { do: "edge", which: "out" });
  assert.deepEqual(player.command("<", true, 2), { do: "speed", step: -1 });
  assert.deepEqual(player.command("]", false, 2), { do: "opacity", by: 0.1 });
  assert.deepEqual(player.command("Escape", false, 2), { do: "clear" });
  for (const key of ["3", "0", "Tab", "Enter", "a", "F1", "12", "toString"]) assert.equal(player.command(key, false, 2), null, key);
});

test("the picture is sought at rest, nudged while playing", () => {
  assert.deepEqual(player.follow(0.001, false, 0.04), { seek: false, rate: 1 });
  assert.deepEqual(player.follow(-0.02, false, 0.04), { seek: true, rate: 1 });
  assert.deepEqual(player.follow(0.01, true, 0.04), { seek: false, rate: 1 });
  assert.ok(player.follow(0.1, true, 0.04).rate > 1); // late: faster
  assert.ok(player.follow(-0.1, true, 0.04).rate < 1);
  assert.equal(player.follow(0.3, true, 0.04).seek, true);
});

test("labels of the time axis keep their distance", () => {
  for (const duration of [0.3, 2.56, 10, 61, 3600]) {
    for (const width of [250, 640]) assert.ok((player.tickStep(duration, width, 54) / duration) * width >= 54);
  }
  assert.equal(player.tickStep(2.56, 640, 54), 0.5);
});

test("hertz on the mel axis", () => {
  assert.equal(player.hzToY(0, 8000), 0);
  assert.equal(player.hzToY(8000, 8000), 1);
  assert.ok(Math.abs(player.hzToMel(1000) - 1000) < 0.1);
  assert.ok(player.hzToY(1000, 8000) > 1000 / 8000);
  assert.deepEqual(player.hzTicks(8000), [250, 500, 1000, 2000, 4000, 8000]);
  assert.equal(player.hzLabel(250), "250 Hz");
  assert.equal(player.hzLabel(16000), "16 kHz");
});

test("the longest label that fits", () => {
  assert.equal(player.fitting([80, 30], 100), 0);
  assert.equal(player.fitting([80, 30], 50), 1);
  assert.equal(player.fitting([80, 30], 10), -1);
});

test("colours rise in brightness and stay in range", () => {
  const light = ([r, g, b]) => 0.299 * r + 0.587 * g + 0.114 * b;
  for (let v = 0; v < 255; v++) assert.ok(light(player.colour(v + 1)) >= light(player.colour(v)) - 1e-9, `at ${v}`);
  assert.deepEqual(player.colour(-5), player.colour(0));
  assert.deepEqual(player.colour(999), [252, 253, 191]);
});

test("ink of a dark page is bright", () => {
  assert.equal(player.bright("rgb(255, 255, 255)"), true);
  assert.equal(player.bright("rgb(30, 30, 30)"), false);
  assert.equal(player.bright("rgba(224, 224, 224, 0.9)"), true);
});

test("a focused control keeps the keys that it needs", () => {
  assert.equal(player.owned("SELECT", "ArrowDown"), true);
  assert.equal(player.owned("INPUT", "ArrowLeft"), true);
  assert.equal(player.owned("INPUT", "l"), false);
  assert.equal(player.owned("BUTTON", " "), true);
  assert.equal(player.owned("DIV", " "), false);
});

test("edges of a selection", () => {
  assert.deepEqual(player.withEdge(null, "in", 0.5, 2), [0.5, 2]);
  assert.deepEqual(player.withEdge(null, "out", 0.5, 2), [0, 0.5]);
  assert.deepEqual(player.withEdge([0.2, 1], "in", 0.5, 2), [0.5, 1]);
  assert.deepEqual(player.withEdge([0.2, 1], "in", 1.5, 2), [1.5, 2], "the other edge gives way");
  assert.deepEqual(player.withEdge([0.8, 1], "out", 0.5, 2), [0, 0.5]);
  assert.equal(player.withEdge(null, "in", 2, 2), null);
  assert.equal(player.withEdge(null, "out", 0, 2), null);
  assert.deepEqual(player.between(1, 0.5), [0.5, 1]);
  assert.equal(player.between(1, 1.01), null);
});

test("speeds go step by step and end", () => {
  assert.equal(player.nextSpeed(1, 1), 1.25);
  assert.equal(player.nextSpeed(1, -1), 0.75);
  assert.equal(player.nextSpeed(2, 1), 2);
  assert.equal(player.nextSpeed(0.25, -1), 0.25);
});

test("even levels only turn down, by 24 dB at most, and leave silence alone", () => {
  assert.deepEqual(player.evenGains([-20, -26, null]), [-6, 0, 0]);
  assert.ok(player.evenGains([-10, -70])[0] === -24);
  assert.deepEqual(player.evenGains([]), []);
});

test("a picture is shown whole in its box", () => {
  assert.deepEqual(player.contain(320, 320, 160, 80), { x: 0, y: 80, width: 320, height: 160 });
  assert.deepEqual(player.contain(320, 320, 80, 160), { x: 80, y: 0, width: 160, height: 320 });
});

test("the frame of the saliency map", () => {
  assert.equal(player.frameAt(0, 25, 50), 0);
  assert.equal(player.frameAt(0.12, 25, 50), 3); // 0.12 * 25 is a hair under 3 in binary
  assert.equal(player.frameAt(1.999, 25, 50), 49);
  assert.equal(player.frameAt(2, 25, 50), -1);
});

test("no saliency is transparent, the most as opaque as asked for", () => {
  assert.equal(player.heat(0, 1)[3], 0);
  assert.equal(player.heat(255, 0.6)[3], 153);
  assert.deepEqual(player.heat(300), player.heat(255));
});

test("throttled: the first at once, the last never lost", () => {
  let time = 0, runs = [], due = [];
  const tell = player.throttled(() => runs.push(time), 200, () => time, (run, wait) => due.push([time + wait, run]));
  for (time = 0; time <= 1000; time += 10) {
    while (due.length && due[0][0] <= time) due.shift()[1]();
    if (time <= 500) tell();
  }
  assert.deepEqual(runs, [0, 200, 400, 600]);
});
