// The player: video, waveform, spectrogram and event ticks under one playhead; tracks that switch in
// place. Plain ES module on canvas: no bundler, no network. The audio element is the clock.

export function timeToX(time, duration, width) {
  return duration > 0 ? Math.min(Math.max(time / duration, 0), 1) * width : 0;
}

export function xToTime(x, duration, width) {
  return width > 0 ? Math.min(Math.max(x / width, 0), 1) * duration : 0;
}

export function clock(seconds) {
  const s = Math.max(0, seconds);
  const minutes = Math.floor(s / 60);
  return `${minutes}:${(s - 60 * minutes).toFixed(2).padStart(5, "0")}`;
}

export function bytes(base64) {
  return Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
}

// Which key does what: null means the page keeps the key.
export function command(key, tracks) {
  if (key === " " || key === "k") return { do: "toggle" };
  if (key === "ArrowLeft") return { do: "seek", by: -0.1 };
  if (key === "ArrowRight") return { do: "seek", by: 0.1 };
  if (key === ",") return { do: "frame", by: -1 };
  if (key === ".") return { do: "frame", by: 1 };
  if (key === "Home") return { do: "to", at: 0 };
  if (key === "End") return { do: "to", at: 1 };
  if (key === "m") return { do: "mute" };
  const n = Number(key);
  if (Number.isInteger(n) && n >= 1 && n <= tracks) return { do: "track", index: n - 1 };
  return null;
}

const LUT = [[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]];

// 0..255 to a colour between black-violet and pale yellow.
export function colour(value) {
  const x = (Math.min(Math.max(value, 0), 255) / 255) * (LUT.length - 1);
  const i = Math.min(Math.floor(x), LUT.length - 2);
  return LUT[i].map((c, k) => Math.round(c + (LUT[i + 1][k] - c) * (x - i)));
}

const HUES = { wood: "#b5651d", metal: "#6b93b8", glass: "#2aa198", ceramic: "#5b7bff", drum: "#d0503c" };

export function mount(root) {
  if (root.dataset.mounted) return;
  root.dataset.mounted = "yes";
  const data = JSON.parse(root.querySelector("script[type='application/json']").textContent);
  const video = root.querySelector("video");
  const audios = [...root.querySelectorAll("audio")];
  root.querySelectorAll(".fallback").forEach((e) => (e.hidden = true));
  video.controls = false;
  video.muted = true;
  const panel = root.querySelector(".panel");
  panel.hidden = false;
  const canvas = panel.querySelector("canvas");
  const status = panel.querySelector("[role=status]");
  const play = panel.querySelector(".play");
  const readout = panel.querySelector(".readout");
  const slider = panel.querySelector("[role=slider]");
  const buttons = [...panel.querySelectorAll(".track")];
  const duration = data.duration;
  let current = 0;
  let muted = false;
  const master = () => audios[current] || video;
  let picture = null;

  function draw() {
    const ratio = window.devicePixelRatio || 1;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    if (!width) return;
    if (canvas.width !== Math.round(width * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const g = canvas.getContext("2d");
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, width, height);
    const style = getComputedStyle(root);
    const ink = style.color;
    const track = data.tracks[current];
    const left = 44;
    const inner = width - left - 6;
    const waveH = 54;
    const specH = 110;
    const specTop = waveH + 14;
    g.font = "10px system-ui, sans-serif";
    if (track) {
      g.fillStyle = "#3f6fd8";
      const env = track.envelope;
      const n = env.length / 2;
      for (let i = 0; i < n; i++) {
        const x = left + (i / n) * inner;
        const a = (1 - env[2 * i + 1] / 127) * waveH / 2;
        const b = (1 - env[2 * i] / 127) * waveH / 2;
        g.fillRect(x, a, Math.max(1, inner / n), Math.max(1, b - a));
      }
      if (!picture) picture = paint(track);
      g.imageSmoothingEnabled = true;
      g.drawImage(picture, left, specTop, inner, specH);
    }
    g.fillStyle = ink;
    g.textAlign = "right";
    g.textBaseline = "middle";
    g.fillText("1", left - 5, 6);
    g.fillText("0", left - 5, waveH / 2);
    g.fillText("-1", left - 5, waveH - 6);
    if (track) {
      for (const [hz, y] of track.ticks) g.fillText(hz, left - 5, specTop + (1 - y) * specH);
    }
    const axis = specTop + specH;
    g.textBaseline = "top";
    g.textAlign = "center";
    const step = duration > 12 ? 2 : duration > 4 ? 1 : 0.5;
    for (let t = 0; t <= duration + 1e-6; t += step) {
      const x = left + timeToX(t, duration, inner);
      g.fillRect(x, axis, 1, 4);
      g.fillText(`${Number(t.toFixed(1))} s`, Math.min(Math.max(x, left + 10), left + inner - 12), axis + 6);
    }
    for (const e of data.events) {
      const x = left + timeToX(e.time_s, duration, inner);
      g.strokeStyle = e.sounding ? HUES[e.material] || ink : "#999";
      g.setLineDash(e.sounding ? [] : [3, 3]);
      g.lineWidth = 2;
      g.beginPath();
      g.moveTo(x, 0);
      g.lineTo(x, waveH + 10);
      g.stroke();
    }
    g.setLineDash([]);
    const x = left + timeToX(master().currentTime, duration, inner);
    g.fillStyle = "#e0245e";
    g.fillRect(x - 1, 0, 2, axis);
  }

  function paint(track) {
    const raw = bytes(track.spectrogram);
    const [h, w] = track.shape;
    const off = document.createElement("canvas");
    off.width = w;
    off.height = h;
    const g = off.getContext("2d");
    const image = g.createImageData(w, h);
    for (let y = 0; y < h; y++) {
      for (let x = 0; x < w; x++) {
        const [r, gr, b] = colour(raw[(h - 1 - y) * w + x]);
        image.data.set([r, gr, b, 255], 4 * (y * w + x));
      }
    }
    g.putImageData(image, 0, 0);
    return off;
  }

  function sync() {
    const t = master().currentTime;
    if (audios.length && Math.abs(video.currentTime - t) > 0.04) video.currentTime = t;
    readout.textContent = `${clock(t)} / ${clock(duration)}`;
    slider.setAttribute("aria-valuenow", t.toFixed(2));
    slider.setAttribute("aria-valuetext", `${t.toFixed(2)} seconds of ${duration.toFixed(2)}`);
    draw();
  }

  function loop() {
    sync();
    if (!master().paused && !master().ended) requestAnimationFrame(loop);
    else stopped();
  }

  function stopped() {
    video.pause();
    play.textContent = "Play";
    play.setAttribute("aria-pressed", "false");
  }

  function toggle() {
    const m = master();
    if (m.paused || m.ended) {
      if (m.currentTime >= duration - 0.02) seek(0);
      m.play();
      if (audios.length) video.play().catch(() => {});
      play.textContent = "Pause";
      play.setAttribute("aria-pressed", "true");
      requestAnimationFrame(loop);
    } else {
      m.pause();
      stopped();
    }
  }

  function seek(time) {
    const t = Math.min(Math.max(time, 0), duration);
    master().currentTime = t;
    video.currentTime = t;
    sync();
  }

  function select(index) {
    if (index === current || !audios[index]) return;
    const before = master();
    const running = !before.paused;
    before.pause();
    current = index;
    picture = null;
    const after = master();
    after.currentTime = before.currentTime;
    after.muted = muted;
    if (running) after.play();
    buttons.forEach((b, k) => b.setAttribute("aria-checked", String(k === current)));
    status.textContent = `now: ${data.tracks[current].label}`;
    sync();
  }

  play.addEventListener("click", toggle);
  buttons.forEach((b, k) => b.addEventListener("click", () => select(k)));
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    seek(xToTime(event.clientX - box.left - 44, duration, box.width - 50));
  };
  let dragging = false;
  canvas.addEventListener("pointerdown", (e) => {
    dragging = true;
    canvas.setPointerCapture(e.pointerId);
    at(e);
  });
  canvas.addEventListener("pointermove", (e) => dragging && at(e));
  canvas.addEventListener("pointerup", () => (dragging = false));
  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const what = command(event.key, data.tracks.length);
    if (!what || (event.key === " " && event.target.tagName === "BUTTON")) return;
    event.preventDefault();
    event.stopPropagation();
    if (what.do === "toggle") toggle();
    else if (what.do === "seek") seek(master().currentTime + what.by);
    else if (what.do === "frame") seek(master().currentTime + what.by / data.fps);
    else if (what.do === "to") seek(what.at * duration);
    else if (what.do === "track") select(what.index);
    else {
      muted = !muted;
      audios.forEach((a) => (a.muted = muted));
      status.textContent = muted ? "muted" : "sound on";
    }
  });
  audios.forEach((a) => a.addEventListener("ended", stopped));
  new ResizeObserver(draw).observe(canvas);
  sync();
  return { seek, select, toggle, time: () => master().currentTime, track: () => current };
}
