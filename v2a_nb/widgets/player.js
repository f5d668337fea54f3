// The player: picture, waveform, spectrogram, events and saliency under one playhead; soundtracks that switch in
// place. One plain ES module on canvas: no bundler, no network. The audio element is the clock, the picture follows.
// From top to bottom: pure functions, style, drawing, the player (mount), the same as a widget (render).

export const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

export function timeToX(time, duration, width) {
  return duration > 0 ? clamp(time / duration, 0, 1) * width : 0;
}

export function xToTime(x, duration, width) {
  return width > 0 ? clamp(x / width, 0, 1) * duration : 0;
}

// 61.234 -> "1:01.23"; cut, not rounded, so that 59.999 is never "0:60.00".
export function clock(seconds) {
  const hundredths = Math.floor(Math.max(0, seconds) * 100 + 1e-6);
  const minutes = Math.floor(hundredths / 6000);
  return `${minutes}:${((hundredths % 6000) / 100).toFixed(2).padStart(5, "0")}`;
}

export function decodeU8(base64) {
  return Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
}

export function decodeI8(base64) {
  return new Int8Array(decodeU8(base64).buffer);
}

// Which key does what; null leaves the key to the page.
export function command(key, shift, tracks) {
  const k = key.length === 1 ? key.toLowerCase() : key;
  if (k === " " || k === "k") return { do: "toggle" };
  if (k === "ArrowLeft" || k === "ArrowRight") {
    return { do: "by", seconds: (k === "ArrowLeft" ? -1 : 1) * (shift ? 1 : 0.1) };
  }
  if (k === "," || k === ".") return { do: "frame", step: k === "," ? -1 : 1 };
  if (k === "<" || k === ">") return { do: "speed", step: k === "<" ? -1 : 1 };
  if (k === "[" || k === "]") return { do: "opacity", by: k === "[" ? -0.1 : 0.1 };
  const plain = {
    Home: { do: "to", share: 0 }, End: { do: "to", share: 1 }, Escape: { do: "clear" },
    i: { do: "edge", which: "in" }, o: { do: "edge", which: "out" }, l: { do: "loop" }, m: { do: "mute" }, e: { do: "even" },
  };
  if (Object.hasOwn(plain, k)) return plain[k];
  const n = "123456789".indexOf(k);
  return k.length === 1 && n >= 0 && n < tracks ? { do: "track", index: n } : null;
}

// Keys that a focused control needs for itself.
export function owned(tag, key) {
  if (tag === "SELECT") return key !== "Escape";
  if (tag === "INPUT") return /^(Arrow|Home|End|Page)/.test(key);
  return key === " " && (tag === "BUTTON" || tag === "SUMMARY");
}

// A selection [start, end] with one edge put at `time`; the other edge gives way; null where nothing is left.
export function withEdge(selection, which, time, duration) {
  const [a, b] = selection || [0, duration];
  const made = which === "in" ? [time, b > time ? b : duration] : [a < time ? a : 0, time];
  return made[1] - made[0] >= SHORTEST ? made : null;
}

// A selection between two times in any order, or null where they are too close to mean one.
export function between(a, b) {
  return Math.abs(a - b) >= SHORTEST ? [Math.min(a, b), Math.max(a, b)] : null;
}

const SHORTEST = 0.02; // seconds

export const SPEEDS = [0.25, 0.5, 0.75, 1, 1.25, 1.5, 2];

export function nextSpeed(speed, step) {
  return SPEEDS[clamp(SPEEDS.indexOf(speed) + step, 0, SPEEDS.length - 1)];
}

// dB (never positive) that bring every track down to the quietest, by 24 at most; silence (null) is left alone.
export function evenGains(levels) {
  const lowest = Math.min(...levels.filter((level) => level !== null));
  return levels.map((level) => (level === null ? 0 : Math.max(lowest - level, -24)));
}

// Where a picture of w x h lies in a box when it is shown whole.
export function contain(boxWidth, boxHeight, w, h) {
  const scale = Math.min(boxWidth / w, boxHeight / h);
  return { x: (boxWidth - w * scale) / 2, y: (boxHeight - h * scale) / 2, width: w * scale, height: h * scale };
}

// Which frame shows at `time`; -1 after the last.
export function frameAt(time, fps, frames) {
  const k = Math.floor(time * fps + 1e-6);
  return k >= 0 && k < frames ? k : -1;
}

// Runs at most once per `gap` milliseconds; the last call is never lost.
export function throttled(run, gap, now = () => performance.now(), later = setTimeout) {
  let last = -Infinity, waiting = false;
  const go = () => { waiting = false; last = now(); run(); };
  return () => {
    const wait = last + gap - now();
    if (wait <= 0 && !waiting) go();
    else if (!waiting) { waiting = true; later(go, wait); }
  };
}

// How the picture follows the clock; late is positive, seconds. A small lag is caught up by speed, because
// a seek while playing costs more than it mends; a large one, or any at rest, by a seek. A muted track may be
// hurried more than a picture, and must stand closer, because it may be heard next.
export function follow(late, playing, frame, unheard = false) {
  if (!playing) return { seek: Math.abs(late) > frame / 4, rate: 1 };
  if (Math.abs(late) > 0.2) return { seek: true, rate: 1 };
  if (unheard) return { seek: false, rate: Math.abs(late) > 0.004 ? clamp(1 + 6 * late, 0.5, 2) : 1 };
  return { seek: false, rate: Math.abs(late) > 0.02 ? clamp(1 + 4 * late, 0.75, 1.25) : 1 };
}

const STEPS = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300];

// Seconds between labels so that they stand at least `room` pixels apart.
export function tickStep(duration, width, room) {
  return STEPS.find((s) => (s / duration) * width >= room) || 600 * Math.ceil((room * duration) / width / 600);
}

export const hzToMel = (hz) => 2595 * Math.log10(1 + hz / 700);

// Where a frequency stands on the mel axis: 0 at the bottom, 1 at the top.
export function hzToY(hz, top) {
  return clamp(hzToMel(hz) / hzToMel(top), 0, 1);
}

export function hzTicks(top) {
  return [250, 500, 1000, 2000, 4000, 8000, 16000].filter((hz) => hz <= 0.95 * top || hz === top);
}

export const hzLabel = (hz) => (hz < 1000 ? `${hz} Hz` : `${hz / 1000} kHz`);

// The longest of the widths (longest first) that fits between a mark and what stands next to it; -1: none.
export function fitting(widths, room) {
  return widths.findIndex((width) => width <= room);
}

const LUT = [[0, 0, 4], [59, 15, 112], [140, 41, 129], [222, 73, 104], [254, 159, 109], [252, 253, 191]];

// 0..255 to a colour between black-violet and pale yellow (after matplotlib's magma).
export function colour(value) {
  const x = (clamp(value, 0, 255) / 255) * (LUT.length - 1);
  const i = Math.min(Math.floor(x), LUT.length - 2);
  return LUT[i].map((c, k) => Math.round(c + (LUT[i + 1][k] - c) * (x - i)));
}

// A value of the saliency map as [r, g, b, alpha]: nothing where there is none. One hue, that of the curve, which
// few pictures have and which hides no more of them than it must.
export function heat(value, opacity = 1) {
  return [255, 20, 147, Math.round(clamp(value, 0, 255) * opacity)];
}

// "rgb(12, 34, 56)" is bright: the ink of a dark page.
export function bright(css) {
  const [r, g, b] = (css.match(/[\d.]+/g) || [0, 0, 0]).map(Number);
  return 0.299 * r + 0.587 * g + 0.114 * b > 128;
}

// material -> [on a light page, on a dark page]
const HUES = new Map(Object.entries({
  wood: ["#9a4f0e", "#f0a35e"], metal: ["#3f6384", "#9cc3e6"], glass: ["#0f7d74", "#5fd6ca"],
  ceramic: ["#4046c8", "#a9aeff"], drum: ["#b3261e", "#ff9a8f"],
}));

const STYLE = `
:host{display:block;color:inherit;font:14px/1.35 system-ui,sans-serif}
*{box-sizing:border-box}
[hidden]{display:none!important}
.wrap{display:flex;flex-wrap:wrap;gap:12px;align-items:flex-start;--line:color-mix(in srgb,currentColor 35%,transparent)}
.picture{position:relative;flex:1 1 200px;max-width:320px;margin:0}
video{display:block;width:100%;max-height:320px;border-radius:6px;object-fit:contain}
.overlay{position:absolute;inset:0;width:100%;height:100%;pointer-events:none}
.panel{flex:4 1 380px;min-width:min(100%,280px)}
.bar{display:flex;flex-wrap:wrap;gap:6px 8px;align-items:center;margin:0 0 8px}
.tools{font-size:12px;margin:8px 0 0;gap:6px}
.tools .readout:not(:empty){margin-inline-end:8px}
.tools label{display:inline-flex;align-items:center;gap:4px;white-space:nowrap}
button,select{font:inherit;color:inherit;background:transparent;padding:4px 10px;border:1px solid var(--line);border-radius:6px;
 cursor:pointer;text-align:start;max-width:100%;overflow-wrap:anywhere}
.tools :is(button,select){padding:2px 8px}
option{color:#000;background:#fff}
button:hover{background:color-mix(in srgb,currentColor 10%,transparent)}
button[aria-pressed=true]{background:#2457c5;border-color:#2457c5;color:#fff}
button:disabled{opacity:.45;cursor:default}
input[type=range]{width:84px;margin:0;accent-color:#2457c5}
.play{min-width:5.2em;text-align:center;font-weight:600}
button small{opacity:.85;white-space:nowrap}
.badge{font-size:.8em;font-weight:700;border:1px solid currentColor;border-radius:4px;padding:0 4px;margin-inline-end:4px;white-space:nowrap}
.readout{font-variant-numeric:tabular-nums;white-space:nowrap}
.slider{border-radius:4px;touch-action:none;cursor:pointer}
.slider canvas{display:block;width:100%}
:is(button,select,input,.slider,summary):focus-visible{outline:3px solid #e8710a;outline-offset:2px}
.under{display:flex;flex-wrap:wrap;gap:2px 14px;font-size:12px;margin-top:8px;opacity:.9}
.under span{white-space:nowrap}
.scale{display:inline-block;width:56px;height:9px;vertical-align:middle;border-radius:2px;margin:0 4px}
.dot{display:inline-block;width:9px;height:9px;border-radius:50%;margin-right:4px;border:2px solid}
details{font-size:12px;margin-top:4px}
summary{cursor:pointer;width:max-content}
.live{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}`;

const KEYS = "Space: play or pause · ← →: 0.1 s (with Shift 1 s) · , and .: one picture · Home, End · 1 to 9: soundtrack · " +
  "I, O: selection starts, ends here · L: loop · Esc: no selection · < >: speed · [ ]: saliency weaker, stronger · " +
  "E: even levels · M: mute. Click or drag on the curves to go there; drag with Shift, or drag an edge, to select.";

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children); // strings become text nodes: names are never read as HTML
  return made;
}

// --- drawing --------------------------------------------------------------------------------------

const GUTTER = 56, RIGHT = 12; // pixels beside the curves
const HEAD = "#e8710a";

// What stands below what, pixels from the top: events, waveform, spectrogram, saliency, axis.
function lanesOf(data) {
  const sound = data.tracks.length > 0;
  const wave = { top: data.events.length ? 24 : 4, height: sound ? 64 : 0 };
  const spec = { top: wave.top + wave.height + (sound ? 8 : 0), height: sound ? 112 : 0 };
  const curve = { top: spec.top + spec.height + (data.saliency ? 8 : 0), height: data.saliency ? 40 : 0 };
  return { wave, spec, curve, axis: curve.top + curve.height };
}

const SHADES = Array.from({ length: 256 }, (_, value) => [...colour(value), 255]);

function pixels(width, height, paint) {
  const made = element("canvas", { width, height }), g = made.getContext("2d"), image = g.createImageData(width, height);
  for (let i = 0; i < width * height; i++) image.data.set(paint(i % width, Math.floor(i / width)), 4 * i);
  g.putImageData(image, 0, 0);
  return made;
}

// The curves: one picture of all that stands still, and the selection and playhead over it.
function chartOf(canvas, data, legend) {
  const { duration, tracks, events, saliency } = data;
  const { wave, spec, curve, axis } = lanesOf(data);
  const pictures = [];
  let still = null, drawn = "";
  canvas.style.height = `${axis + 24}px`;
  const place = (time, inner) => GUTTER + timeToX(time, duration, inner);

  function decoded(k) {
    const { mel, bands, columns, envelope } = tracks[k], raw = decodeU8(mel);
    const image = () => pixels(columns, bands, (x, y) => SHADES[raw[(bands - 1 - y) * columns + x]]);
    return (pictures[k] = pictures[k] || { image: image(), envelope: decodeI8(envelope) }); // low frequencies below
  }

  function drawTrack(g, k, inner, dark) {
    const track = tracks[k], { image, envelope } = decoded(k), n = envelope.length / 2, half = wave.height / 2;
    for (let i = 0; i < n; i++) {
      const low = envelope[2 * i], high = envelope[2 * i + 1], x = GUTTER + (i / n) * inner;
      const broken = low === -128, over = track.clipped && (low <= -127 || high >= 127);
      g.fillStyle = broken || over ? (dark ? "#ff8a80" : "#c5221f") : dark ? "#8ab4f8" : "#2457c5";
      const top = broken ? 0 : half - (high / 127) * half, bottom = broken ? wave.height : half - (low / 127) * half;
      g.globalAlpha = broken ? 0.45 : 1; // no number: the whole height, because no height is true
      g.fillRect(x, wave.top + top, Math.max(1, inner / n), Math.max(1, bottom - top));
    }
    g.globalAlpha = 1;
    g.save();
    g.beginPath();
    g.rect(GUTTER, spec.top, inner, spec.height);
    g.clip();
    g.fillStyle = "rgb(0,0,4)";
    g.fillRect(GUTTER, spec.top, inner, spec.height);
    const scale = inner / duration;
    g.drawImage(image, GUTTER + track.origin * scale, spec.top, track.columns * track.step * scale, spec.height);
    g.restore();
  }

  function drawCurve(g, inner, dark, ink) {
    const values = decodeU8(saliency.curve), base = curve.top + curve.height;
    if (saliency.window) {
      const [a, b] = saliency.window.map((t) => place(t, inner));
      g.fillStyle = dark ? "rgba(255,255,255,.16)" : "rgba(0,0,0,.1)";
      g.fillRect(a, curve.top, Math.max(2, b - a), curve.height);
    }
    g.fillStyle = dark ? "#ff5fb0" : "#d01277";
    values.forEach((value, k) => {
      const from = place(k / saliency.fps, inner), to = place((k + 1) / saliency.fps, inner);
      const high = (value / 255) * curve.height;
      if (to > from) g.fillRect(from, base - high, to - from + 0.5, high);
    });
    g.fillStyle = ink;
    g.fillRect(GUTTER, base, inner, 1);
    g.fillText("1", GUTTER - 6, curve.top + 5);
    g.fillText("saliency", GUTTER - 4, curve.top + curve.height / 2);
  }

  function drawEvents(g, inner, width, dark, ink) {
    const places = events.map((e) => place(e.time, inner));
    events.forEach((e, i) => {
      const hue = HUES.get(e.material), x = places[i];
      g.fillStyle = g.strokeStyle = e.sounding ? (hue ? hue[Number(dark)] : ink) : dark ? "#b8b8b8" : "#6a6a6a";
      const hollow = !e.sounding || e.doubtful;
      g.setLineDash(hollow ? [3, 3] : []);
      g.lineWidth = 1.5;
      g.beginPath();
      g.moveTo(x, 13);
      g.lineTo(x, wave.top + wave.height);
      g.stroke();
      g.setLineDash([]);
      g.beginPath();
      g.arc(x, 9, 3.5, 0, 2 * Math.PI);
      if (hollow) g.stroke();
      else g.fill();
      const room = (i + 1 < places.length ? places[i + 1] - 10 : width) - x - 6;
      const fit = fitting(e.labels.map((text) => g.measureText(text).width), room);
      if (fit >= 0) g.fillText(e.labels[fit], x + 6, 3);
    });
  }

  // Everything that does not move with the playhead, drawn once per size, track and theme.
  function drawStill(width, height, ratio, ink, current) {
    const dark = bright(ink), inner = width - GUTTER - RIGHT;
    still = element("canvas", { width: Math.round(width * ratio), height: Math.round(height * ratio) });
    const g = still.getContext("2d");
    g.scale(ratio, ratio);
    g.font = "11px system-ui, sans-serif";
    g.textBaseline = "middle";
    g.textAlign = "right";
    if (tracks.length) {
      drawTrack(g, current, inner, dark);
      g.fillStyle = ink;
      [`+${data.full}`, "0", `−${data.full}`].forEach((text, k) =>
        g.fillText(text, GUTTER - 6, wave.top + 6 + (k * (wave.height - 12)) / 2));
      for (const hz of hzTicks(data.fmax)) {
        const y = spec.top + (1 - hzToY(hz, data.fmax)) * spec.height;
        g.fillRect(GUTTER - 4, y, 4, 1);
        if (hz !== 500) g.fillText(hzLabel(hz), GUTTER - 6, Math.max(y, spec.top + 6));
      }
    }
    if (saliency) drawCurve(g, inner, dark, ink);
    g.fillStyle = ink;
    g.textAlign = "left";
    g.textBaseline = "top";
    g.fillRect(GUTTER, axis, inner, 1);
    const step = tickStep(duration, inner, 54);
    for (let k = 0; k * step <= duration + 1e-9; k++) {
      const x = place(k * step, inner), text = `${Number((k * step).toFixed(2))} s`;
      g.fillRect(x, axis, 1, 5);
      g.fillText(text, Math.min(x - 3, width - g.measureText(text).width - 1), axis + 8);
    }
    drawEvents(g, inner, width, dark, ink);
    legend.replaceChildren(...legendOf(data, dark));
  }

  // `now`: time, current track, selection, looping. Colours are those of the page at this moment.
  function draw(now) {
    const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width) return;
    const ink = getComputedStyle(canvas).color, key = [width, height, ratio, ink, now.current].join();
    if (key !== drawn) {
      drawStill(width, height, ratio, ink, now.current);
      [canvas.width, canvas.height, drawn] = [still.width, still.height, key];
    }
    const g = canvas.getContext("2d"), inner = width - GUTTER - RIGHT, top = wave.top - 2;
    g.setTransform(1, 0, 0, 1, 0, 0);
    g.clearRect(0, 0, canvas.width, canvas.height);
    g.drawImage(still, 0, 0);
    g.scale(ratio, ratio);
    const bar = (x, wide, fill) => { g.fillStyle = fill; g.fillRect(x - wide / 2, top, wide, axis - top + 2); };
    if (now.selection) {
      const [a, b] = now.selection.map((t) => place(t, inner));
      g.fillStyle = now.looping ? "rgba(47,158,68,.28)" : "rgba(128,150,190,.3)";
      g.fillRect(a, top, b - a, axis - top);
      for (const [x, way] of [[a, 1], [b, -1]]) {
        bar(x, 4, bright(ink) ? "#000" : "#fff");
        bar(x, 2, now.looping ? "#2f9e44" : "#5c7cba");
        g.fillRect(way > 0 ? x : x - 7, axis - 12, 7, 12); // something to take hold of
      }
    }
    const x = Math.round(place(now.time, inner));
    bar(x, 4, bright(ink) ? "#000" : "#fff"); // a rim: seen on any picture
    bar(x, 2, HEAD);
  }

  const timeAt = (event) => {
    const box = canvas.getBoundingClientRect();
    return xToTime(event.clientX - box.left - GUTTER, duration, box.width - GUTTER - RIGHT);
  };
  const perPixel = () => duration / Math.max(1, canvas.clientWidth - GUTTER - RIGHT);
  return { draw, timeAt, perPixel, forget: () => (drawn = "") };
}

function legendOf(data, dark) {
  const { events, tracks, saliency } = data, parts = [];
  const scale = (fill) => element("i", { class: "scale", style: `background:linear-gradient(90deg,${fill})` });
  if (tracks.length) {
    const stops = [0, 51, 102, 153, 204, 255].map((v) => `rgb(${colour(v)})`).join(",");
    const [low, high] = data.range;
    parts.push(element("span", {}, `spectrogram ${String(low).replace("-", "−")}`, scale(stops), `${high} dBFS`));
  }
  const seen = new Map(events.filter((e) => e.sounding && !e.doubtful).map((e) => [e.material, HUES.get(e.material)]));
  for (const [name, hue] of seen) {
    const css = hue ? `background:${hue[Number(dark)]};border-color:${hue[Number(dark)]}` : "background:currentColor";
    parts.push(element("span", {}, element("i", { class: "dot", style: css }), element("bdi", {}, name || "event")));
  }
  if (events.some((e) => e.doubtful)) {
    parts.push(element("span", {}, element("i", { class: "dot", style: "border-color:currentColor" }), "doubtful hit"));
  }
  if (events.some((e) => !e.sounding)) parts.push(element("span", {}, element("i", { class: "dot" }), "miss: no sound"));
  if (saliency) {
    const [from, to] = [0, 255].map((v) => `rgba(${heat(v).slice(0, 3)},${v / 255})`);
    parts.push(element("span", {}, "saliency 0", scale(`${from},${to}`), "1 (clip's maximum)"));
    if (saliency.window) {
      const [a, b] = saliency.window.map((t) => t.toFixed(2));
      parts.push(element("span", {}, `shaded: the sound it explains, ${a} to ${b} s`));
    }
  }
  parts.push(...data.notes.map((note) => element("span", { style: "white-space:normal" }, note)));
  return parts;
}

// The saliency map of the moment over the picture, as large as the picture is shown.
function overlayOf(canvas, video, data) {
  const { map, fps, frames, width, height } = data.saliency, raw = decodeU8(map);
  let drawn = "";
  return (time, opacity) => {
    const k = frameAt(time, fps, frames), ratio = window.devicePixelRatio || 1;
    const box = { w: video.clientWidth, h: video.clientHeight }, key = [k, opacity, box.w, box.h, ratio].join();
    if (key === drawn || !box.w) return;
    drawn = key;
    [canvas.width, canvas.height] = [Math.round(box.w * ratio), Math.round(box.h * ratio)];
    if (k < 0) return; // the map ends before the clip does
    const g = canvas.getContext("2d"), at = contain(canvas.width, canvas.height, data.width, data.height);
    const tile = pixels(width, height, (x, y) => heat(raw[(k * height + y) * width + x], opacity));
    g.imageSmoothingQuality = "high";
    g.drawImage(tile, at.x, at.y, at.width, at.height);
  };
}

// --- the player -----------------------------------------------------------------------------------

// Replace the plain controls in `root` by the player. The elements with the data are moved, not copied.
// `changed`, where given, is called whenever time, track, selection or playing may have changed.
export function mount(root, data, changed = () => {}) {
  if (root.dataset.mounted) return null;
  root.dataset.mounted = "yes";
  const video = root.querySelector("video"), audios = [...root.querySelectorAll("audio")];
  const { duration, tracks, saliency } = data, frame = 1 / data.fps;
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
  const master = () => audios[current] || video;
  const running = () => !master().paused && !master().ended;
  let current = 0, muted = false, even = false, speed = 1, opacity = 0.6, selection = null, looping = false;
  let drag = null, told = 0, before = 0, request = 0;

  const button = (text, attributes, ...more) => element("button", { type: "button", ...attributes }, text, ...more);
  const play = button("Play", { class: "play", "aria-keyshortcuts": "Space" });
  const readout = element("span", { class: "readout" });
  const gains = evenGains(tracks.map((track) => track.rms));
  const marks = tracks.map(() => element("span", { class: "badge", hidden: "" }));
  const buttons = tracks.map((track, k) => {
    const parts = [element("bdi", {}, track.label), " "];
    if (track.level) parts.push(element("small", {}, track.level), " ");
    parts.push(...track.notes.map((note) => element("span", { class: "badge" }, note)), marks[k]);
    return button(`${k + 1} `, { class: "track", "aria-pressed": String(k === 0) }, ...parts);
  });
  const group = element("span", { class: "bar", role: "group", "aria-label": "soundtrack", style: "margin:0" }, ...buttons);
  const canvas = element("canvas", { "aria-hidden": "true" });
  const slider = element("div", {
    class: "slider", role: "slider", tabindex: "0", "aria-label": "position", "aria-orientation": "horizontal",
    "aria-valuemin": "0", "aria-valuemax": duration.toFixed(2),
  }, canvas);
  const tool = {
    in: button("In", { "aria-keyshortcuts": "I", title: "the selection starts here (I)" }),
    out: button("Out", { "aria-keyshortcuts": "O", title: "the selection ends here (O)" }),
    loop: button("Loop", { "aria-keyshortcuts": "L", "aria-pressed": "false", title: "repeat the selection, or all (L)" }),
    clear: button("Clear", { "aria-keyshortcuts": "Escape", title: "no selection (Esc)" }),
    even: button("Even levels", { "aria-keyshortcuts": "E", "aria-pressed": "false", title: "bring louder tracks down to the quietest; by how much is shown (E)" }),
  };
  const chosen = element("span", { class: "readout" });
  const speeds = element("select", { "aria-label": "speed" },
    ...SPEEDS.map((s) => element("option", { value: s, ...(s === 1 ? { selected: "" } : {}) }, `${s}×`)));
  const strength = element("input", { type: "range", min: "0", max: "100", step: "5", value: "60", "aria-label": "opacity of the saliency overlay" });
  const tools = element("div", { class: "bar tools", role: "group", "aria-label": "selection, speed, overlay" },
    tool.in, tool.out, tool.loop, tool.clear, chosen, element("label", {}, "speed", speeds));
  if (gains.some((gain) => gain < -0.5)) tools.append(tool.even);
  if (saliency) tools.append(element("label", {}, "saliency", strength));
  const legend = element("div", { class: "under" });
  const live = element("div", { class: "live", role: "status", "aria-live": "polite" });
  const help = element("details", {}, element("summary", {}, "Keys"), element("div", {}, KEYS));
  const panel = element("div", { class: "panel" },
    element("div", { class: "bar" }, play, readout, group), slider, tools, legend, help, live);
  const overlay = element("canvas", { class: "overlay", "aria-hidden": "true" });
  const wrap = element("div", { class: "wrap" }, element("div", { class: "picture" }, video, overlay), panel);
  // JupyterLab would take M for "to markdown" and the arrows for moving between cells
  const host = element("div", {
    role: "group", "aria-label": `player: ${data.title}`, "data-lm-suppress-shortcuts": "true",
  });
  const shadow = host.attachShadow({ mode: "open" }); // the page's own styles stay out
  shadow.append(element("style", {}, STYLE), wrap, ...audios);
  audios.forEach((a) => { a.controls = false; a.hidden = true; });
  video.controls = false;
  video.muted = true;
  video.style.cssText = `aspect-ratio:${data.width}/${data.height}`;
  root.querySelectorAll(".v2a-plain").forEach((e) => (e.hidden = true));
  root.append(host);
  const drop = () => video.removeAttribute("poster"); // from now on the picture is that of the playhead
  if (video.readyState >= 2) drop();
  else video.addEventListener("loadeddata", drop, { once: true });

  const chart = chartOf(canvas, data, legend);
  const heatmap = saliency ? overlayOf(overlay, video, data) : () => {};
  const curve = saliency ? decodeU8(saliency.curve) : [];
  const now = () => Math.min(master().currentTime, duration);
  const say = (text) => { live.textContent = text; };
  const draw = () => {
    chart.draw({ time: now(), current, selection, looping });
    heatmap(now(), opacity);
    root.dispatchEvent(new CustomEvent("v2a-time", { detail: now(), bubbles: true })); // for what stands around it
  };

  // The picture and the muted tracks go along with the clock, so that a switch finds its track in place.
  function gather(t, playing) {
    for (const other of [video, ...audios]) {
      if (other === master() || other.seeking) continue;
      const film = other === video, aim = Math.min(film ? t + 0.001 : t, other.duration || t); // a hair inside the frame
      const move = follow(aim - other.currentTime, playing, film ? frame : 0.02, !film);
      if (move.seek) other.currentTime = aim;
      other.playbackRate = speed * move.rate;
    }
  }

  // Those that a browser does not let run beside the clock are started by select() when they are wanted.
  const resume = () => [video, ...audios].forEach((m) => m.paused && Promise.resolve(m.play()).catch(() => {}));

  function sync(tell = true) {
    const t = now();
    gather(t, running());
    if (tell) {
      readout.textContent = `${clock(t)} / ${clock(duration)}`;
      const k = saliency ? frameAt(t, saliency.fps, curve.length) : -1;
      const looked = k < 0 ? "" : `, saliency ${(curve[k] / 255).toFixed(2)}`;
      slider.setAttribute("aria-valuenow", t.toFixed(2));
      slider.setAttribute("aria-valuetext", `${t.toFixed(2)} of ${duration.toFixed(2)} seconds${looked}`);
      changed();
    }
    draw();
  }

  function loop(stamp) {
    if (!running()) return rest();
    turn();
    const due = stamp - told > (calm.matches ? 250 : 60); // text ten times a second is enough to read
    if (due) told = stamp;
    if (due || !calm.matches) sync(due);
    request = requestAnimationFrame(loop);
  }

  function turn() {
    const [first, end] = selection || [0, duration];
    if (looping && running() && before < end && master().currentTime >= end) {
      go(first);
      resume();
    }
    before = master().currentTime;
  }

  function rest() {
    if (looping && master().ended) { // the end of the clip came before the end of the selection was seen
      go(selection ? selection[0] : 0);
      return start();
    }
    [video, ...audios].forEach((m) => m.pause());
    play.textContent = "Play";
    sync();
  }

  function start() {
    if (master().ended || now() >= duration - 0.01) go(looping && selection ? selection[0] : 0);
    else if (looping && selection && now() >= selection[1]) go(selection[0]);
    document.dispatchEvent(new CustomEvent("v2a-play", { detail: host }));
    play.textContent = "Pause";
    Promise.resolve(master().play()).catch((error) => {
      if (error.name === "AbortError") return; // paused before it had begun
      say("this browser refused to play");
      rest();
    });
    before = master().currentTime;
    resume();
    cancelAnimationFrame(request);
    request = requestAnimationFrame(loop);
  }

  function pause() {
    master().pause();
    rest();
  }

  const toggle = () => (running() ? pause() : start());

  function go(time) {
    for (const m of audios.length ? audios : [video]) m.currentTime = clamp(time, 0, duration);
    before = clamp(time, 0, duration);
  }

  function seek(time) {
    go(time);
    sync();
  }

  function select(index) {
    if (index === current || !audios[index]) return;
    const last = master(), t = last.currentTime, playing = running();
    current = index;
    // near enough already while playing: a seek would be heard as a gap
    if (!playing || master().paused || Math.abs(master().currentTime - t) > 0.025) master().currentTime = t;
    master().playbackRate = speed;
    if (playing && master().paused) Promise.resolve(master().play()).catch(rest);
    sound();
    buttons.forEach((b, k) => b.setAttribute("aria-pressed", String(k === current)));
    say(`soundtrack ${index + 1}: ${tracks[index].label} ${tracks[index].notes.join(", ")}`);
    sync();
  }

  // Who is heard, and how loud: as it is, unless even levels were asked for; then what was done is shown.
  function sound() {
    audios.forEach((a, k) => {
      const level = even ? 10 ** (gains[k] / 20) : 1;
      // Under the last of 16 bits, but not nothing: a track that is muted or at 0 is moved to another output by the
      // browser, and would be a tenth of a second late when it is wanted. Muted where volume cannot be set.
      a.volume = k === current ? level : 1e-6;
      a.muted = muted || (k !== current && a.volume > 0.01);
      marks[k].hidden = !even || gains[k] > -0.5;
      marks[k].textContent = a.volume === 1 && level < 1 ? "level kept" : `${gains[k].toFixed(0)} dB`.replace("-", "−");
    });
  }

  function mute() {
    muted = !muted;
    sound();
    readout.style.textDecoration = muted ? "line-through" : "";
    say(muted ? "muted" : "sound on");
  }

  function evenOut() {
    if (!tool.even.isConnected) return;
    even = !even;
    sound();
    tool.even.setAttribute("aria-pressed", String(even));
    say(even ? "levels evened out, the louder tracks are turned down" : "levels as they are");
  }

  function choose(region, aloud = true) {
    selection = region && between(clamp(region[0], 0, duration), clamp(region[1], 0, duration));
    chosen.textContent = selection ? `${selection[0].toFixed(2)} to ${selection[1].toFixed(2)} s` : "";
    tool.clear.disabled = !selection && !looping;
    if (aloud) say(selection ? `selection ${chosen.textContent}` : "no selection");
    changed();
    draw();
  }

  function repeat(on) {
    looping = on;
    before = now();
    tool.loop.setAttribute("aria-pressed", String(looping));
    tool.clear.disabled = !selection && !looping;
    say(looping ? `looping ${selection ? "the selection" : "all"}` : "loop off");
    draw();
  }

  function clear() {
    if (looping) repeat(false);
    choose(null);
  }

  function setSpeed(value) {
    speed = value;
    speeds.value = String(speed);
    for (const m of [video, ...audios]) { // pitch is kept where the browser can
      m.preservesPitch = m.webkitPreservesPitch = true;
      m.playbackRate = speed;
    }
    say(`speed ${speed}`);
  }

  function setOpacity(value) {
    opacity = clamp(Math.round(value * 100) / 100, 0, 1);
    strength.value = String(Math.round(opacity * 100));
    say(`saliency overlay ${strength.value} percent`);
    draw();
  }

  const edge = (which) => choose(withEdge(selection, which, now(), duration));
  const actions = {
    toggle, mute, clear,
    by: (what) => seek(now() + what.seconds),
    frame: (what) => seek((Math.round(now() / frame) + what.step) * frame),
    to: (what) => seek(what.share * duration),
    track: (what) => select(what.index),
    edge: (what) => edge(what.which),
    loop: () => repeat(!looping),
    speed: (what) => setSpeed(nextSpeed(speed, what.step)),
    opacity: (what) => saliency && setOpacity(opacity + what.by),
    even: evenOut,
  };
  const clicks = [[play, toggle], [tool.in, () => edge("in")], [tool.out, () => edge("out")],
    [tool.loop, actions.loop], [tool.clear, clear], [tool.even, evenOut], ...buttons.map((b, k) => [b, () => select(k)])];
  clicks.forEach(([what, run]) => what.addEventListener("click", run));
  speeds.addEventListener("change", () => setSpeed(Number(speeds.value)));
  strength.addEventListener("input", () => setOpacity(Number(strength.value) / 100));

  // A drag moves the playhead; with Shift it selects; on an edge of the selection it moves that edge.
  const grip = (t) => (selection || []).findIndex((other) => Math.abs(other - t) <= 6 * chart.perPixel());
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    const t = chart.timeAt(event), held = grip(t);
    drag = event.shiftKey ? { from: t } : held >= 0 ? { from: selection[1 - held] } : { seek: true };
    canvas.setPointerCapture(event.pointerId);
    slider.focus({ preventScroll: true });
    event.preventDefault();
    if (drag.seek) seek(t);
  });
  canvas.addEventListener("pointermove", (event) => {
    const t = chart.timeAt(event);
    if (drag && drag.seek) seek(t);
    else if (drag) choose(between(drag.from, t), false);
    else slider.style.cursor = grip(t) >= 0 ? "ew-resize" : "";
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, () => {
      if (drag && !drag.seek) choose(selection); // said once, when it is done
      drag = null;
    });
  }
  shadow.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || owned(event.target.tagName, event.key)) return;
    const what = command(event.key, event.shiftKey, tracks.length);
    if (!what) return;
    event.preventDefault();
    event.stopPropagation();
    actions[what.do](what);
  });
  const other = (event) => event.detail !== host && running() && pause(); // one player sounds at a time
  document.addEventListener("v2a-play", other);
  const asked = (event) => seek(event.detail);
  root.addEventListener("v2a-seek", asked);
  const repaint = () => { chart.forget(); draw(); };
  const scheme = window.matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", repaint);
  const resized = new ResizeObserver(draw);
  [canvas, video].forEach((e) => resized.observe(e));
  for (const m of [...audios, video]) {
    m.addEventListener("seeked", () => sync(false)); // the clock may have gone on meanwhile
    m.addEventListener("ended", () => m === master() && rest());
    m.addEventListener("timeupdate", () => document.hidden && m === master() && turn()); // no frames are drawn there
  }
  sound();
  choose(null, false);
  sync();
  return {
    seek, select, choose, start, pause, host,
    state: () => ({ time: now(), track: current, selection, playing: running() }),
    remove() {
      looping = false;
      pause();
      resized.disconnect();
      document.removeEventListener("v2a-play", other);
      root.removeEventListener("v2a-seek", asked);
      scheme.removeEventListener("change", repaint);
      host.remove();
    },
  };
}

// --- the same as a widget (an anywidget front-end module) ------------------------------------------

const leads = new Map(); // a widget may be shown twice; the view that was started last speaks for "playing"

function render({ model, el }) {
  const data = JSON.parse(model.get("_payload")), key = model.get("_key"), labels = data.tracks.map((t) => t.label);
  const [film, poster, ...sounds] = model.get("_media"), urls = [];
  const url = (bytes, type) => urls[urls.push(URL.createObjectURL(new Blob([bytes], { type }))) - 1];
  const root = element("figure", { style: "margin:8px 0;max-width:1000px" },
    element("figcaption", { dir: "auto", style: "font-weight:600;margin:0 0 8px;text-align:start" }, data.title),
    element("video", { playsinline: "", preload: "auto", poster: url(poster, "image/jpeg"), src: url(film, "video/mp4") }),
    ...sounds.map((bytes) => element("audio", { preload: "auto", src: url(bytes, "audio/wav") })));
  root.querySelector("video").muted = true;
  el.append(root);
  const sent = {};
  let player = null, hushed = true;

  // What this view knows, in the words of the Python traits.
  const words = () => {
    const { time, track, selection, playing } = player.state();
    return { current_time: Number(time.toFixed(3)), track: labels[track] ?? "", selection, playing };
  };
  const publish = () => {
    let news = false;
    for (const [name, value] of Object.entries(words())) {
      if (JSON.stringify(value) === JSON.stringify(sent[name])) continue;
      if (name === "playing" && value) leads.set(key, root);
      if (name === "playing" && leads.get(key) !== root) continue;
      sent[name] = value;
      model.set(name, value);
      news = true;
    }
    if (news) model.save_changes();
  };
  const tell = throttled(() => player && publish(), 200);
  player = mount(root, data, () => hushed || tell());

  // From Python, or from another view of the same widget: done, and not told back.
  const applies = {
    current_time: (value) => player.seek(value),
    track: (value) => player.select(labels.indexOf(value)),
    selection: (value) => player.choose(value, false),
    playing: (value) => {
      if (!leads.has(key)) leads.set(key, root);
      if (leads.get(key) !== root || value === player.state().playing) return;
      if (value) player.start();
      else player.pause();
    },
  };
  const obey = (name) => {
    const value = model.get(name);
    if (JSON.stringify(value) === JSON.stringify(sent[name])) return;
    sent[name] = value;
    hushed = true;
    try { applies[name](value); } finally { hushed = false; }
  };
  const heard = Object.keys(applies).map((name) => [`change:${name}`, () => obey(name)]);
  ["track", "selection", "current_time"].forEach(obey); // never "playing": nothing starts by itself
  Object.assign(sent, words(), { playing: model.get("playing") });
  if (!leads.has(key)) leads.set(key, root);
  tell();
  heard.forEach(([name, run]) => model.on(name, run));
  return () => {
    heard.forEach(([name, run]) => model.off(name, run));
    player.remove();
    if (leads.get(key) === root) leads.delete(key);
    urls.forEach((u) => URL.revokeObjectURL(u));
    root.remove();
  };
}

export default { render };
