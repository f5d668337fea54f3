// What pages of the site do beyond their theme; each is the page's own, nothing is fetched but plotly from beside it.
const base = document.currentScript.src.replace(/[^/]*$/, "");

// headings of the side bar have a level, and what scrolls sideways can be scrolled by keys
function reachable() {
  for (const heading of document.querySelectorAll(".caption[role=heading]")) heading.setAttribute("aria-level", "2");
  const wide = ".content table, .content pre, .cell_output .output, .cell_output figure, math[display=block], .house-frame";
  for (const box of document.querySelectorAll(wide)) {
    if (box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight + 1) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}

// a still picture gets plotly's figure of the same numbers below it, for pointing and zooming
function zoomable() {
  const boxes = document.querySelectorAll(".zoomable");
  if (!boxes.length) return;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches; // as the still pictures go, whatever the theme says
  const [back, ink, line] = dark ? ["#121212", "#ddd", "#444"] : ["#fff", "#222", "#ddd"];
  const script = document.createElement("script");
  script.src = `${base}plotly.min.js`;
  script.onload = () => {
    for (const box of boxes) {
      const { data, layout, config } = JSON.parse(box.querySelector("script").textContent);
      Object.assign(layout, { paper_bgcolor: back, plot_bgcolor: back, font: { ...layout.font, color: ink } });
      if (dark) for (const { marker } of data) if (marker) marker.color = "#7aa2ff";
      for (const axis of [layout.xaxis, layout.yaxis]) Object.assign(axis, { gridcolor: line, zerolinecolor: line });
      const place = box.appendChild(document.createElement("div"));
      Plotly.newPlot(place, data, layout, { ...config, responsive: true });
    }
  };
  document.head.append(script);
}

addEventListener("DOMContentLoaded", () => { reachable(); zoomable(); });
addEventListener("load", reachable);
addEventListener("resize", reachable);
