"use strict";
const SECONDS = 5;
const COLORS = ["#0972d3", "#e07941", "#037f0c", "#8456ce", "#d13212", "#067f68", "#c33d69", "#7d8998", "#b8860b", "#4d72f3"];
const byId = (id) => document.getElementById(id);
const charts = new Map();
let shownName = null;
let timer = null;

const element = (tag, attributes = {}, ...children) => {
  const created = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) created.setAttribute(name, value);
  created.append(...children);
  return created;
};

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const formatted = (value) => {
  if (value == null) return "–";
  const size = Math.abs(value);
  if (size >= 1e6) return (value / 1e6).toFixed(1) + " M";
  if (size >= 1e4) return (value / 1e3).toFixed(1) + " k";
  if (size >= 100 || Number.isInteger(value)) return value.toFixed(0);
  return size >= 1 ? value.toFixed(2) : value.toPrecision(2);
};

const last = (line) => (line.points.length ? line.points[line.points.length - 1][1] : null);

// The selected time window, in seconds since 1970: every chart spans it, however few points it has.
let shownWindow = [0, 1];

const sparkline = (points) => {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 92 18");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  if (points.length > 1) {
    const values = points.map((point) => point[1]);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const [from, to] = shownWindow;
    const place = ([t, v]) => `${(90 * (t - from)) / (to - from) + 1},${high > low ? 16 - (14 * (v - low)) / (high - low) : 9}`;
    const path = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    path.setAttribute("points", points.map(place).join(" "));
    svg.append(path);
  }
  return svg;
};

const aligned = (widget) => {
  const times = [...new Set(widget.lines.flatMap((line) => line.points.map((point) => point[0])))].sort((a, b) => a - b);
  const at = new Map(times.map((time, index) => [time, index]));
  const rows = widget.lines.map((line) => {
    const row = new Array(times.length).fill(null);
    for (const [time, value] of line.points) row[at.get(time)] = value;
    return row;
  });
  if (widget.stacked) {
    const sum = new Array(times.length).fill(0);
    for (const row of rows) for (let i = 0; i < row.length; i++) row[i] = sum[i] += row[i] ?? 0;
  }
  return [times, ...rows];
};

const options = (widget, box) => {
  const text = color("--soft");
  const axis = (label, side, scale) => ({
    scale, side, stroke: text, label: label ?? "", labelSize: label ? 16 : 0, labelFont: "11px system-ui", font: "11px system-ui",
    size: 46, grid: { show: side === 3, stroke: color("--grid"), width: 1 }, ticks: { stroke: color("--grid") },
    values: (_, values) => values.map(formatted),
  });
  const axes = [
    { stroke: text, font: "11px system-ui", size: 26, grid: { stroke: color("--grid"), width: 1 }, ticks: { stroke: color("--grid") } },
    axis(widget.axes.left, 3, "left"),
  ];
  const right = widget.lines.some((line) => line.side === "right");
  if (right) axes.push(axis(widget.axes.right, 1, "right"));
  const limits = widget.limits.map((limit) => limit.value);
  const range = (values) => (_, low, high) => {
    const top = Math.max(high ?? 0, ...values, 0);
    return [Math.min(low ?? 0, 0), top > 0 ? top * 1.08 : 1];
  };
  const scales = { x: { time: true, range: () => shownWindow }, left: { range: range(limits) } };
  if (right) scales.right = { range: range([]) };
  const series = [{}, ...widget.lines.map((line, index) => ({
    label: line.label, scale: line.side, stroke: COLORS[index % COLORS.length], width: 1.75, spanGaps: false,
    fill: widget.stacked ? COLORS[index % COLORS.length] + "55" : undefined, points: { size: 5 },
  }))];
  const bands = widget.stacked ? widget.lines.slice(1).map((_, index) => ({ series: [index + 2, index + 1] })) : [];
  return {
    width: box.clientWidth, height: box.clientHeight, series, axes, scales, bands, cursor: { y: false },
    hooks: { draw: [(plot) => drawLimits(plot, widget.limits)] },
  };
};

const drawLimits = (plot, limits) => {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = color("--alarm");
  ctx.setLineDash([6, 4]);
  ctx.font = `${11 * devicePixelRatio}px system-ui`;
  limits.forEach((limit, index) => {
    const y = plot.valToPos(limit.value, "left", true);
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
    // Limits may overlap; alternating alignment keeps their labels apart.
    ctx.textAlign = index % 2 ? "right" : "left";
    const x = index % 2 ? bbox.left + bbox.width - 4 * devicePixelRatio : bbox.left + 4 * devicePixelRatio;
    if (limit.label) ctx.fillText(`${limit.label} ${formatted(limit.value)}`, x, y - 4 * devicePixelRatio);
  });
  ctx.restore();
};

const fill = {
  text(section, widget) {
    const [head, ...rest] = widget.markdown.split("\n");
    section.append(element("h2", {}, head.replace(/^#+ /, "")), ...rest.map((line) => element("p", {}, line)));
  },
  alarm(section, widget) {
    const states = widget.alarms.map((alarm) => {
      const state = alarm.state === "OK" || alarm.state === "ALARM" ? alarm.state : "unknown";
      const shown = alarm.state ?? "no such alarm";
      return element("span", { class: state, title: alarm.reason }, `${alarm.name}: ${shown}`);
    });
    section.append(element("h3", {}, widget.title ?? "alarms"), element("div", { class: "alarms" }, ...states));
  },
  metric(section, widget, key) {
    section.append(element("h3", {}, widget.title ?? ""));
    const notes = widget.lines.filter((line) => line.note).map((line) => line.note);
    if (widget.view === "singleValue") {
      section.classList.add("single");
      section.append(element("div", { class: "numbers" }, ...widget.lines.map((line) =>
        element("div", { title: line.note }, element("b", {}, formatted(last(line))), element("small", {}, line.label), sparkline(line.points)))));
      return;
    }
    if (!widget.lines.some((line) => line.points.length)) {
      section.append(element("div", { class: "empty" }, notes[0] ?? "no data in this period"));
      return;
    }
    const box = element("div", { class: "chart" });
    const legend = element("div", { class: "legend" }, ...widget.lines.map((line, index) => element("span", { title: line.note },
      element("i", { style: `background:${COLORS[index % COLORS.length]}` }), `${line.label} `, element("b", {}, formatted(last(line))))));
    section.append(box, legend);
    charts.set(key, new uPlot(options(widget, box), aligned(widget), box));
  },
};

const draw = (response) => {
  for (const chart of charts.values()) chart.destroy();
  charts.clear();
  shownWindow = [response.now - 60 * Number(byId("minutes").value), response.now];
  const sections = response.widgets.map((widget) => {
    const section = element("section", { class: widget.type });
    section.style.gridColumn = `${widget.x + 1} / span ${widget.width}`;
    section.style.gridRow = `${widget.y + 1} / span ${widget.height}`;
    return section;
  });
  byId("grid").replaceChildren(...sections);
  response.widgets.forEach((widget, index) => fill[widget.type](sections[index], widget, index));
  const at = new Date(response.now * 1000).toLocaleTimeString();
  say(`as of ${at}; refreshes every ${SECONDS} s`);
  document.body.dataset.ready = "true";
};

const say = (text, failed = false) => {
  byId("status").textContent = text;
  byId("status").classList.toggle("failed", failed);
};

const get = async (path) => {
  const response = await fetch(path);
  const content = await response.json();
  if (!response.ok) throw new Error(content.error);
  return content;
};

const refresh = async () => {
  clearTimeout(timer);
  try {
    const { dashboards } = await get("dashboards");
    const select = byId("name");
    const wanted = select.value || decodeURIComponent(location.hash.slice(1));
    if (dashboards.join() !== [...select.options].map((option) => option.value).join()) {
      select.replaceChildren(...dashboards.map((name) => element("option", { value: name }, name)));
    }
    select.value = dashboards.includes(wanted) ? wanted : (dashboards[0] ?? "");
    shownName = select.value;
    if (shownName) draw(await get(`dashboards/${encodeURIComponent(shownName)}?minutes=${byId("minutes").value}`));
    else say("no dashboard is deployed yet");
  } catch (error) {
    say(`${error.message}; is the local account running?`, true);
  }
  timer = setTimeout(refresh, SECONDS * 1000);
};

const query = new URLSearchParams(location.search);
if (query.has("theme")) document.documentElement.dataset.theme = query.get("theme");
if (query.has("minutes")) byId("minutes").value = query.get("minutes");
byId("name").addEventListener("change", () => { location.hash = encodeURIComponent(byId("name").value); refresh(); });
byId("minutes").addEventListener("change", refresh);
byId("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  refresh();
});
addEventListener("resize", () => { clearTimeout(timer); timer = setTimeout(refresh, 200); });
refresh();
