// The player: picture, waveform, spectrogram and events under one playhead; soundtracks that switch in place.
// One plain ES module on canvas: no bundler, no network. The audio element is the clock, the picture follows.

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
  if (k === "Home") return { do: "to", share: 0 };
  if (k === "End") return { do: "to", share: 1 };
  if (k === "m") return { do: "mute" };
  const n = "123456789".indexOf(k);
  return k.length === 1 && n >= 0 && n < tracks ? { do: "track", index: n } : null;
}

// How the picture follows the clock; late is positive, seconds. A small lag is caught up by speed, because
// a seek while playing costs more than it mends; a large one, or any at rest, by a seek.
export function follow(late, playing, frame) {
  if (!playing) return { seek: Math.abs(late) > frame / 4, rate: 1 };
  if (Math.abs(late) > 0.2) return { seek: true, rate: 1 };
  return { seek: false, rate: Math.abs(late) > 0.02 ? clamp(1 + 2 * late, 0.75, 1.25) : 1 };
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
.picture{flex:1 1 200px;max-width:320px;margin:0}
video{display:block;width:100%;max-height:320px;border-radius:6px;object-fit:contain}
.panel{flex:4 1 380px;min-width:min(100%,280px)}
.bar{display:flex;flex-wrap:wrap;gap:6px 8px;align-items:center;margin:0 0 8px}
button{font:inherit;color:inherit;background:transparent;padding:4px 10px;border:1px solid var(--line);border-radius:6px;
 cursor:pointer;text-align:start;max-width:100%;overflow-wrap:anywhere}
button:hover{background:color-mix(in srgb,currentColor 10%,transparent)}
button[aria-pressed=true].track{background:#2457c5;border-color:#2457c5;color:#fff}
.play{min-width:5.2em;text-align:center;font-weight:600}
button small{opacity:.85;white-space:nowrap}
.badge{font-size:.8em;font-weight:700;border:1px solid currentColor;border-radius:4px;padding:0 4px;margin-inline-end:4px;white-space:nowrap}
.readout{font-variant-numeric:tabular-nums;white-space:nowrap}
.slider{border-radius:4px;touch-action:none;cursor:pointer}
canvas{display:block;width:100%}
button:focus-visible,.slider:focus-visible,summary:focus-visible{outline:3px solid #e8710a;outline-offset:2px}
.under{display:flex;flex-wrap:wrap;gap:2px 14px;font-size:12px;margin-top:8px;opacity:.9}
.under span{white-space:nowrap}
.scale{display:inline-block;width:56px;height:9px;vertical-align:middle;border-radius:2px;margin:0 4px}
.dot{display:inline-block;width:9px;height:9px;border-radius:50%;margin-right:4px;border:2px solid}
details{font-size:12px;margin-top:4px}
summary{cursor:pointer;width:max-content}
.live{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}`;

const KEYS = "Space: play or pause · ← →: 0.1 s (with Shift 1 s) · , and .: one picture · Home, End · " +
  "1 to 9: soundtrack · M: mute. Click or drag on the curves to go there.";

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children); // strings become text nodes: names are never read as HTML
  return made;
}

// Replace the plain controls in `root` by the player. The elements with the data are moved, not copied.
export function mount(root, data) {
  if (root.dataset.mounted) return null;
  root.dataset.mounted = "yes";
  const video = root.querySelector("video");
  const audios = [...root.querySelectorAll("audio")];
  const { duration, tracks, events } = data;
  const frame = 1 / data.fps;
  const master = () => audios[current] || video;
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
  let current = 0, muted = false, stale = true, dragging = false, told = 0, still = null;
  const pictures = [];

  const play = element("button", { type: "button", class: "play", "aria-keyshortcuts": "Space" }, "Play");
  const readout = element("span", { class: "readout" });
  const buttons = tracks.map((track, k) => {
    const parts = [`${k + 1} `, element("bdi", {}, track.label), " "];
    if (track.level) parts.push(element("small", {}, track.level), " ");
    parts.push(...track.notes.map((note) => element("span", { class: "badge" }, note)));
    return element("button", { type: "button", class: "track", "aria-pressed": String(k === 0) }, ...parts);
  });
  const group = element("span", { class: "bar", role: "group", "aria-label": "soundtrack", style: "margin:0" }, ...buttons);
  const canvas = element("canvas", { "aria-hidden": "true" });
  const slider = element("div", {
    class: "slider", role: "slider", tabindex: "0", "aria-label": "position", "aria-orientation": "horizontal",
    "aria-valuemin": "0", "aria-valuemax": duration.toFixed(2),
  }, canvas);
  const legend = element("div", { class: "under" });
  const live = element("div", { class: "live", role: "status", "aria-live": "polite" });
  const help = element("details", {}, element("summary", {}, "Keys"), element("div", {}, KEYS));
  const panel = element("div", { class: "panel" },
    element("div", { class: "bar" }, play, readout, group), slider, legend, help, live);
  const wrap = element("div", { class: "wrap" }, element("div", { class: "picture" }, video), panel);
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

  const GUTTER = 50, RIGHT = 12;
  const lane = events.length ? 24 : 4;
  const wave = tracks.length ? 64 : 0;
  const spec = tracks.length ? 112 : 0;
  const specTop = lane + wave + (tracks.length ? 8 : 0);
  const axis = specTop + spec;
  canvas.style.height = `${axis + 24}px`;

  function paint(track) {
    const raw = decodeU8(track.mel), { bands, columns } = track;
    const made = element("canvas", { width: columns, height: bands });
    const g = made.getContext("2d"), image = g.createImageData(columns, bands);
    for (let i = 0; i < raw.length; i++) {
      const x = i % columns, y = bands - 1 - Math.floor(i / columns); // low frequencies at the bottom
      image.data.set([...colour(raw[i]), 255], 4 * (y * columns + x));
    }
    g.putImageData(image, 0, 0);
    return { image: made, envelope: decodeI8(track.envelope) };
  }

  function drawTrack(g, left, inner, dark) {
    const track = tracks[current];
    const { image, envelope } = (pictures[current] = pictures[current] || paint(track));
    const n = envelope.length / 2, half = wave / 2;
    for (let i = 0; i < n; i++) {
      const low = envelope[2 * i], high = envelope[2 * i + 1];
      const over = track.clipped && (low <= -127 || high >= 127);
      g.fillStyle = over ? (dark ? "#ff8a80" : "#c5221f") : dark ? "#8ab4f8" : "#2457c5";
      const top = lane + half - (high / 127) * half;
      g.fillRect(left + (i / n) * inner, top, Math.max(1, inner / n), Math.max(1, ((high - low) / 127) * half));
    }
    g.save();
    g.beginPath();
    g.rect(left, specTop, inner, spec);
    g.clip();
    g.fillStyle = "rgb(0,0,4)";
    g.fillRect(left, specTop, inner, spec);
    const scale = inner / duration;
    g.drawImage(image, left + track.origin * scale, specTop, track.columns * track.step * scale, spec);
    g.restore();
  }

  // Everything that does not move with the playhead, drawn once per size, track and theme.
  function drawStill(width, height, ratio, ink) {
    const dark = bright(ink), inner = width - GUTTER - RIGHT, left = GUTTER;
    still = element("canvas", { width: Math.round(width * ratio), height: Math.round(height * ratio) });
    const g = still.getContext("2d");
    g.scale(ratio, ratio);
    g.font = "11px system-ui, sans-serif";
    g.textBaseline = "middle";
    g.textAlign = "right";
    if (tracks.length) {
      drawTrack(g, left, inner, dark);
      g.fillStyle = ink;
      [`+${data.full}`, "0", `−${data.full}`].forEach((text, k) => g.fillText(text, left - 6, lane + 6 + (k * (wave - 12)) / 2));
      for (const hz of hzTicks(data.fmax)) {
        const y = specTop + (1 - hzToY(hz, data.fmax)) * spec;
        g.fillRect(left - 4, y, 4, 1);
        if (hz !== 500) g.fillText(hzLabel(hz), left - 6, Math.max(y, specTop + 6));
      }
    }
    g.fillStyle = ink;
    g.textAlign = "left";
    g.textBaseline = "top";
    g.fillRect(left, axis, inner, 1);
    const step = tickStep(duration, inner, 54);
    for (let k = 0; k * step <= duration + 1e-9; k++) {
      const x = left + timeToX(k * step, duration, inner), text = `${Number((k * step).toFixed(2))} s`;
      g.fillRect(x, axis, 1, 5);
      g.fillText(text, Math.min(x - 3, width - g.measureText(text).width - 1), axis + 8);
    }
    const places = events.map((e) => left + timeToX(e.time, duration, inner));
    events.forEach((e, i) => {
      const hue = HUES.get(e.material), x = places[i];
      g.fillStyle = g.strokeStyle = e.sounding ? (hue ? hue[Number(dark)] : ink) : dark ? "#b8b8b8" : "#6a6a6a";
      g.setLineDash(e.sounding ? [] : [3, 3]);
      g.lineWidth = 1.5;
      g.beginPath();
      g.moveTo(x, 13);
      g.lineTo(x, lane + wave);
      g.stroke();
      g.setLineDash([]);
      g.beginPath();
      g.arc(x, 9, 3.5, 0, 2 * Math.PI);
      if (e.sounding) g.fill();
      else g.stroke();
      const room = (i + 1 < places.length ? places[i + 1] - 10 : width) - x - 6;
      const fit = fitting(e.labels.map((text) => g.measureText(text).width), room);
      if (fit >= 0) g.fillText(e.labels[fit], x + 6, 3);
    });
    drawLegend(dark);
  }

  function drawLegend(dark) {
    const parts = [];
    if (tracks.length) {
      const stops = [0, 51, 102, 153, 204, 255].map((v) => `rgb(${colour(v)})`).join(",");
      const [low, high] = data.range;
      parts.push(element("span", {}, `spectrogram ${String(low).replace("-", "−")}`,
        element("i", { class: "scale", style: `background:linear-gradient(90deg,${stops})` }), `${high} dBFS`));
    }
    const seen = new Map(events.filter((e) => e.sounding).map((e) => [e.material, HUES.get(e.material)]));
    for (const [name, hue] of seen) {
      const css = hue ? `background:${hue[Number(dark)]};border-color:${hue[Number(dark)]}` : "background:currentColor";
      parts.push(element("span", {}, element("i", { class: "dot", style: css }), element("bdi", {}, name || "event")));
    }
    if (events.some((e) => !e.sounding)) parts.push(element("span", {}, element("i", { class: "dot" }), "miss: no sound"));
    parts.push(...data.notes.map((note) => element("span", { style: "white-space:normal" }, note)));
    legend.replaceChildren(...parts);
  }

  let drawn = "";
  function draw() {
    const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width) return;
    const ink = getComputedStyle(host).color, now = [width, height, ratio, ink, current].join();
    if (stale || now !== drawn) {
      drawStill(width, height, ratio, ink);
      canvas.width = still.width;
      canvas.height = still.height;
      [drawn, stale] = [now, false];
    }
    const g = canvas.getContext("2d");
    g.setTransform(1, 0, 0, 1, 0, 0);
    g.clearRect(0, 0, canvas.width, canvas.height);
    g.drawImage(still, 0, 0);
    g.scale(ratio, ratio);
    const x = GUTTER + timeToX(master().currentTime, duration, width - GUTTER - RIGHT);
    g.fillStyle = bright(ink) ? "#000" : "#fff"; // a rim: seen on any picture
    g.fillRect(x - 2, lane - 2, 4, axis - lane + 4);
    g.fillStyle = "#e8710a";
    g.fillRect(x - 1, lane - 2, 2, axis - lane + 4);
  }

  function sync(tell = true) {
    const t = Math.min(master().currentTime, duration), playing = !master().paused && !master().ended;
    if (audios.length && !video.seeking) {
      const move = follow(t - video.currentTime, playing, frame);
      if (move.seek) video.currentTime = t + 0.001; // a hair inside the frame, not on its edge
      video.playbackRate = move.rate;
    }
    if (tell) {
      readout.textContent = `${clock(t)} / ${clock(duration)}`;
      slider.setAttribute("aria-valuenow", t.toFixed(2));
      slider.setAttribute("aria-valuetext", `${t.toFixed(2)} of ${duration.toFixed(2)} seconds`);
    }
    draw();
  }

  function loop(stamp) {
    const m = master();
    if (m.paused || m.ended) return rest();
    const due = stamp - told > (calm.matches ? 250 : 60); // text ten times a second is enough to read
    if (due) told = stamp;
    if (due || !calm.matches) sync(due);
    requestAnimationFrame(loop);
  }

  function rest() {
    video.pause();
    play.textContent = "Play";
    sync();
  }

  function start() {
    if (master().ended || master().currentTime >= duration - 0.01) seek(0);
    document.dispatchEvent(new CustomEvent("v2a-play", { detail: host }));
    play.textContent = "Pause";
    Promise.resolve(master().play()).catch(() => { live.textContent = "this browser refused to play"; rest(); });
    if (audios.length) Promise.resolve(video.play()).catch(() => {});
    requestAnimationFrame(loop);
  }

  function pause() {
    master().pause();
    rest();
  }

  const toggle = () => (master().paused || master().ended ? start() : pause());

  function seek(time) {
    master().currentTime = clamp(time, 0, duration);
    sync();
  }

  function select(index) {
    if (index === current || !audios[index]) return;
    const before = master(), after = audios[index], running = !before.paused && !before.ended;
    after.currentTime = before.currentTime;
    current = index;
    if (running) after.play().catch(rest);
    before.pause();
    buttons.forEach((b, k) => b.setAttribute("aria-pressed", String(k === current)));
    live.textContent = `soundtrack ${index + 1}: ${tracks[index].label} ${tracks[index].notes.join(", ")}`;
    sync();
  }

  function mute() {
    muted = !muted;
    audios.forEach((a) => (a.muted = muted));
    readout.style.textDecoration = muted ? "line-through" : "";
    live.textContent = muted ? "muted" : "sound on";
  }

  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    seek(xToTime(event.clientX - box.left - GUTTER, duration, box.width - GUTTER - RIGHT));
  };
  play.addEventListener("click", toggle);
  buttons.forEach((b, k) => b.addEventListener("click", () => select(k)));
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    dragging = true;
    canvas.setPointerCapture(event.pointerId);
    slider.focus({ preventScroll: true });
    event.preventDefault();
    at(event);
  });
  canvas.addEventListener("pointermove", (event) => dragging && at(event));
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (dragging = false));
  shadow.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const what = command(event.key, event.shiftKey, tracks.length);
    if (!what || (event.key === " " && ["BUTTON", "SUMMARY"].includes(event.target.tagName))) return;
    event.preventDefault();
    event.stopPropagation();
    if (what.do === "toggle") toggle();
    else if (what.do === "by") seek(master().currentTime + what.seconds);
    else if (what.do === "frame") seek((Math.round(master().currentTime / frame) + what.step) * frame);
    else if (what.do === "to") seek(what.share * duration);
    else if (what.do === "track") select(what.index);
    else mute();
  });
  const other = (event) => event.detail !== host && !master().paused && pause(); // one player sounds at a time
  document.addEventListener("v2a-play", other);
  const repaint = () => { stale = true; draw(); };
  const scheme = window.matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", repaint);
  const resized = new ResizeObserver(draw);
  resized.observe(canvas);
  [...audios, video].forEach((m) => ["seeked", "ended"].forEach((name) => m.addEventListener(name, draw)));
  sync();
  return {
    seek, select, toggle, mute, host, time: () => master().currentTime, track: () => current,
    remove() { resized.disconnect(); document.removeEventListener("v2a-play", other); scheme.removeEventListener("change", repaint); host.remove(); },
  };
}
