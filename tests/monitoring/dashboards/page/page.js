// Draw what drawing.py made of a dashboard. Colours and sizes are close to those of Grafana's dark theme.
"use strict";

const COLORS = {
  "green": "#73bf69", "dark-green": "#37872d", "semi-dark-green": "#56a64b", "light-blue": "#8ab8ff",
  "blue": "#5794f2", "dark-blue": "#1f60c4", "light-orange": "#ffb357", "orange": "#ff9830",
  "dark-orange": "#fa6400", "yellow": "#f2cc0c", "red": "#f2495c", "dark-red": "#c4162a",
  "purple": "#b877d9", "text": "#ccccdc", "transparent": "transparent",
};
const PALETTE = ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#ffb357"];
const { times, marks } = DASHBOARD;

const element = (tag, parent, text, className) => {
  const made = parent.appendChild(document.createElement(tag));
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
};
const color = (name, place) => (name ? COLORS[name] : PALETTE[place % PALETTE.length]);
const trimmed = (value, decimals) => {
  const digits = decimals ?? (Math.abs(value) >= 100 || Number.isInteger(value) ? 0 : Math.abs(value) >= 10 ? 1 : 2);
  return value.toFixed(digits);
};
const seconds = (value, decimals) => {
  const size = Math.abs(value);
  if (size === 0) return "0 s";
  if (size < 1e-3) return `${trimmed(value * 1e6, decimals)} µs`;
  if (size < 1) return `${trimmed(value * 1e3, decimals)} ms`;
  if (size < 60) return `${trimmed(value, decimals)} s`;
  if (size < 3600) return `${trimmed(value / 60, decimals)} min`;
  return `${trimmed(value / 3600, decimals)} h`;
};
const shown = (value, unit, decimals) => {
  if (value === null || value === undefined || Number.isNaN(value)) return "-";
  if (unit === "s") return seconds(value, decimals);
  if (unit === "percentunit") return `${trimmed(value * 100, decimals)}%`;
  if (unit === "reqps") return `${trimmed(value, decimals)} req/s`;
  if (unit === "ops") return `${trimmed(value, decimals)} ops/s`;
  return trimmed(value, decimals);
};
const last = (values) => values.findLast((value) => value !== null);
const highest = (values) => values.reduce((most, value) => (value !== null && (most === null || value > most) ? value : most), null);
const step = (steps, value) => steps.findLast((one) => one.value === null || value >= one.value) ?? steps[0];
const clock = (time) => new Date(time * 1000).toISOString().slice(11, 19);

function ticks(parent) {
  const axis = element("div", parent, undefined, "axis");
  const long = times.at(-1) - times[0];
  const apart = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600].find((one) => long / one <= 8) ?? 7200;
  for (let time = Math.ceil(times[0] / apart) * apart; time < times.at(-1); time += apart) {
    const place = (time - times[0]) / long;
    if (place > 0.07 && place < 0.93) element("span", axis, clock(time)).style.left = `${place * 100}%`;
  }
}

function empty(body, panel) {
  element("div", body, panel.empty, "empty");
}

function legend(section, panel, series) {
  const box = element("div", section, undefined, "legend");
  const table = element("table", box);
  const head = element("tr", table);
  element("th", head, "Name");
  const calcs = { lastNotNull: ["Last", last], max: ["Max", highest] };
  for (const calc of panel.legend) element("th", head, calcs[calc][0], "value");
  for (const one of series) {
    const row = element("tr", table);
    const name = element("td", row);
    const key = element("i", name, undefined, one.dashed ? "dashed" : "");
    key.style.background = key.style.color = one.stroke;
    name.append(one.name);
    for (const calc of panel.legend) element("td", row, shown(calcs[calc][1](one.values), panel.unit, panel.decimals), "value");
  }
}

function stacks(panel, series) {
  const sum = times.map(() => 0);
  return series.map((one) => {
    if (!panel.stacked || one.dashed) return one.values;
    return one.values.map((value, place) => (value === null ? null : (sum[place] += value)));
  });
}

function drawMarks(plot) {
  const { ctx, bbox } = plot;
  ctx.save();
  for (const mark of marks) {
    if (mark.to < times[0] || mark.from > times.at(-1)) continue;
    const left = Math.max(bbox.left, plot.valToPos(mark.from, "x", true));
    const right = Math.min(bbox.left + bbox.width, plot.valToPos(mark.to, "x", true));
    ctx.strokeStyle = COLORS[mark.color];
    ctx.fillStyle = COLORS[mark.color];
    ctx.setLineDash([4, 4]);
    ctx.beginPath();
    ctx.moveTo(left, bbox.top);
    ctx.lineTo(left, bbox.top + bbox.height);
    ctx.stroke();
    ctx.fillRect(left, bbox.top + bbox.height - 3, Math.max(4, right - left), 3);
  }
  ctx.restore();
}

function graph(section, body, panel) {
  const series = panel.series.map((one, place) => ({ ...one, stroke: color(one.color, place) }));
  if (series.every((one) => highest(one.values) === null)) return empty(body, panel);
  legend(section, panel, series);
  const tops = stacks(panel, series);
  // What is stacked is drawn from the top down, each filled to the one below; dashed lines come last.
  const lines = series.map((_, place) => place);
  const solid = lines.filter((place) => !series[place].dashed);
  const order = [...(panel.stacked ? solid.toReversed() : solid), ...lines.filter((place) => series[place].dashed)];
  const bands = panel.stacked && !panel.bars ? solid.slice(1).map((_, place) => ({ series: [place + 1, place + 2] })) : [];
  const top = Math.max(...tops.map(highest).filter((value) => value !== null), panel.softMax ?? 0);
  new uPlot(
    {
      width: body.clientWidth,
      height: body.clientHeight,
      cursor: { show: false },
      scales: { x: { time: true }, y: { range: [panel.min ?? 0, panel.max ?? (top * 1.05 || 1)] } },
      axes: [
        { stroke: "#a8a8b8", grid: { stroke: "#24272c" }, ticks: { show: false }, size: 24, values: (_, marks) => marks.map(clock), space: 80 },
        { stroke: "#a8a8b8", grid: { stroke: "#24272c" }, ticks: { show: false }, size: 72, values: (_, marks) => marks.map((mark) => shown(mark, panel.unit)) },
      ],
      series: [
        {},
        ...order.map((place) => {
          const one = series[place];
          const filled = one.dashed ? 0 : panel.fill / 100;
          return {
            stroke: one.stroke,
            width: panel.bars ? 1 : 2,
            dash: one.dashed ? [10, 10] : undefined,
            fill: filled ? one.stroke + Math.round(filled * 255).toString(16).padStart(2, "0") : undefined,
            paths: panel.bars ? uPlot.paths.bars({ size: [0.9, 100] }) : undefined,
            points: { show: false },
          };
        }),
      ],
      bands,
      hooks: { draw: [drawMarks] },
    },
    [times, ...order.map((place) => tops[place])],
    body,
  );
}

function number(body, panel) {
  const values = panel.series[0]?.values ?? [];
  const value = last(values);
  if (value === undefined) return empty(body, panel);
  const named = panel.names[String(value)];
  const back = named ? COLORS[named.color] : COLORS[step(panel.steps, value).color];
  const box = element("div", body, undefined, "number");
  box.style.background = back;
  if (panel.named) element("span", box, panel.series[0].name, "about");
  const text = element("span", box, named ? named.text : shown(value, panel.unit, panel.decimals));
  const most = Math.min(44, body.clientHeight * (panel.named ? 0.42 : 0.6));
  const wide = named ? (body.clientWidth * 1.7) / named.text.length : most;
  text.style.fontSize = `${Math.min(most, Math.max(13, wide))}px`;
}

function table(body, panel) {
  if (!panel.rows.length) return empty(body, panel);
  const made = element("table", element("div", body, undefined, "scroll"));
  const head = element("tr", made);
  const isLabel = (column) => panel.rows.some((row) => typeof row[column.key] === "string");
  for (const column of panel.columns) element("th", head, column.name, isLabel(column) ? "" : "value");
  for (const row of panel.rows) {
    const line = element("tr", made);
    for (const column of panel.columns) {
      const value = row[column.key];
      const label = typeof value === "string" || (value === undefined && isLabel(column));
      const cell = element("td", line, label ? value ?? "" : value === undefined ? "" : shown(value, column.unit), label ? (column.link ? "link" : "") : "value");
      if (column.steps && value !== undefined) {
        const back = COLORS[step(column.steps, value).color];
        cell.style.background = back;
        if (back !== "transparent") cell.style.color = "#111217";
      }
    }
  }
}

function states(section, body, panel) {
  if (!panel.series.length) return empty(body, panel);
  const box = element("div", body, undefined, "states");
  const width = times.at(-1) - times[0];
  for (const one of [...panel.series].sort((a, b) => a.name.localeCompare(b.name))) {
    element("div", box, one.name);
    const bar = element("div", box, undefined, "bar");
    let from = 0;
    for (let place = 1; place <= times.length; place += 1) {
      if (place < times.length && one.values[place] === one.values[from]) continue;
      if (one.values[from] !== null) {
        const part = element("div", bar);
        part.style.left = `${((times[from] - times[0]) * 100) / width}%`;
        part.style.width = `${(((times[place] ?? times.at(-1)) - times[from]) * 100) / width}%`;
        part.style.background = COLORS[panel.names[String(one.values[from])].color];
      }
      from = place;
    }
  }
  element("div", box);
  ticks(box);
  const list = element("div", element("div", section, undefined, "legend"), undefined, "list");
  for (const { text, color: name } of Object.values(panel.names).sort((a, b) => a.index - b.index)) {
    const entry = element("span", list);
    element("i", entry).style.background = COLORS[name];
    entry.append(text);
  }
}

function heatmap(body, panel) {
  const counts = panel.series.map((one, row) =>
    one.values.map((value, place) => (value === null ? null : value - (row ? panel.series[row - 1].values[place] ?? 0 : 0))));
  const most = Math.max(...counts.map((row) => highest(row) ?? 0));
  if (!(most > 0)) return empty(body, panel);
  const box = element("div", body, undefined, "heat");
  const names = element("div", box, undefined, "names");
  for (const one of panel.series) element("span", names, one.name === "+Inf" ? "more" : `≤ ${seconds(Number(one.name))}`);
  const right = element("div", box);
  const canvas = element("canvas", right);
  canvas.width = canvas.clientWidth;
  canvas.height = canvas.clientHeight;
  const ctx = canvas.getContext("2d");
  const [wide, high] = [canvas.width / times.length, canvas.height / counts.length];
  counts.forEach((row, level) => row.forEach((value, place) => {
    if (!(value > 1e-9)) return;
    const share = Math.sqrt(value / most);
    ctx.fillStyle = `hsl(${30 - 12 * share} 95% ${20 + 45 * share}%)`;
    ctx.fillRect(place * wide, canvas.height - (level + 1) * high + 1, Math.ceil(wide), high - 1);
  }));
  ticks(right);
}

document.querySelector("h1").textContent = DASHBOARD.title;
const choice = document.getElementById("choice");
for (const [name, value] of Object.entries(DASHBOARD.variables)) {
  choice.append(`${name} `);
  element("b", choice, value);
  choice.append("  ");
}
choice.append(`${clock(times[0])} to ${clock(times.at(-1))}`);
for (const [kind, name] of new Map(marks.map((mark) => [mark.kind, mark.color]))) {
  const key = element("span", choice, undefined, "mark");
  element("i", key).style.borderColor = COLORS[name];
  key.append(kind);
}
const main = document.querySelector("main");
for (const panel of DASHBOARD.panels) {
  const section = element("section", main, undefined, panel.type);
  const { x, y, w, h } = panel.place;
  section.style.gridArea = `${y + 1} / ${x + 1} / span ${h} / span ${w}`;
  element("h2", section, panel.title);
  if (panel.type === "row") continue;
  const body = element("div", section, undefined, "body");
  if (panel.type === "timeseries") graph(section, body, panel);
  else if (panel.type === "stat") number(body, panel);
  else if (panel.type === "table") table(body, panel);
  else if (panel.type === "state-timeline") states(section, body, panel);
  else if (panel.type === "heatmap") heatmap(body, panel);
}
document.body.dataset.drawn = "yes";
