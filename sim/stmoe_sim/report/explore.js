"use strict";
const $ = id => document.getElementById(id);
const COLOURS = ["#3f7f4c", "#c8452f", "#4a7fb5", "#b58a2c", "#7b6fb0", "#777777", "#2aa3a3", "#d06a9d", "#8a5a2b", "#a3b52a", "#333f8f", "#f0965a",
  "#5f9ea0", "#9d3f3f", "#6a8f3f", "#b07fd0", "#404040"];
const CAUSES = { attention: "#b9c4cf", receive: "#8a97a3", merge: "#d9c9a3", compute: "#3f8f5b", stall_demand: "#c8452f", stall_late: "#e8a33d",
  verify: "#8a5aa8" };
const LANE_COLOURS = ["#8a97a3", "#c8452f", "#4a7fb5", "#3f8f5b"];
const CLASSES = { "both pay": "#3f7f4c", "prefetch pays": "#4a7fb5", "retention pays": "#e8a33d", "neither pays": "#c7c7c7" };
const MOST = 8;
const CONFIG = { displaylogo: false, responsive: true };
const P = DATA.points, C = DATA.columns;
const N = P.id.length;
const RANGE = [...Array(N).keys()];
const good = RANGE.filter(i => P.error[i] === null);
const policies = [...new Set(good.map(i => P["policy.name"][i]))];
const colour = name => COLOURS[policies.indexOf(name) % COLOURS.length];
const at = Object.fromEntries(P.id.map((id, i) => [id, i]));
let chosen = DATA.chosen.map(id => at[id]);

const label = name => C[name] ? C[name].label : name;
function show(value) {
  if (value === null || value === undefined) return "-";
  if (typeof value === "number") return Number.isInteger(value) ? value.toLocaleString("en") : String(+value.toPrecision(4));
  return value === true ? "yes" : value === false ? "no" : String(value);
}
const HEADS = { speedup: "speed-up", milliseconds: "ms", energy_mj: "mJ", mb_per_token: "MB", recall: "recall", precision: "precision",
  sram_mm2: "SRAM, mm2", area_mm2: "area, mm2", link_ratio: "link ratio", buffer_share: "share with a slot" };
const varied = DATA.varied;
const machine = i => P.machine[i];
const describe = i => varied.filter(n => P[n][i] !== null).map(n => `${n} = ${show(P[n][i])}`).join("<br>");
const title = i => `${P["policy.name"][i]} ${P.id[i].slice(0, 4)}`;

function element(tag, attributes = {}, ...inside) {
  const found = Object.assign(document.createElement(tag), attributes);
  found.append(...inside);
  return found;
}
function options(select, values, initial) {
  select.replaceChildren(...values.map(([value, text]) => element("option", { value, textContent: text })));
  if (initial !== undefined) select.value = initial;
}

// What is shown.
const shown = { policy: new Set(policies.filter(p => !good.every(i => P["policy.name"][i] !== p || P.oracle[i]))) };
const selects = {};
function filters() {
  const box = $("filters");
  for (const name of ["trace.file", "regime.name", ...varied.filter(n => n !== "policy.name" && n !== "trace.file" && n !== "regime.name")]) {
    const values = [...new Set(good.map(i => P[name][i]))];
    if (values.length < 2 || values.length > 12) continue;
    const select = element("select", { id: `filter-${name}`, onchange: draw });
    options(select, [["", "all"], ...values.map(v => [JSON.stringify(v), show(v)])]);
    selects[name] = select;
    box.append(element("label", {}, `${name} `, select));
  }
  for (const name of policies) {
    const tick = element("input", { type: "checkbox", checked: shown.policy.has(name), id: `policy-${name}` });
    tick.onchange = () => { tick.checked ? shown.policy.add(name) : shown.policy.delete(name); draw(); };
    const swatch = element("span", { className: "swatch" });
    swatch.style.background = colour(name);
    box.append(element("label", {}, tick, swatch, name));
  }
}
const visible = () => good.filter(i => shown.policy.has(P["policy.name"][i])
  && Object.entries(selects).every(([name, select]) => !select.value || JSON.stringify(P[name][i]) === select.value));

const AXES = { margin: { l: 70, r: 20, t: 50, b: 60 }, font: { family: "system-ui, sans-serif", size: 12 }, hovermode: "closest",
  legend: { orientation: "h", y: 1, yanchor: "bottom", traceorder: "normal" }, paper_bgcolor: "white", plot_bgcolor: "white" };
const axis = (text, more = {}) => ({ title: { text }, gridcolor: "#e8e8e8", zeroline: false, automargin: true, ...more });

function frontOf(points, x, y) {
  const sign = name => C[name].better === "more" ? -1 : 1;
  const usable = points.filter(i => P[x][i] !== null && P[y][i] !== null && !P.oracle[i]);
  usable.sort((a, b) => sign(x) * (P[x][a] - P[x][b]) || sign(y) * (P[y][a] - P[y][b]));
  let best = Infinity;
  return usable.filter(i => sign(y) * P[y][i] < best && (best = sign(y) * P[y][i], true));
}
function pareto() {
  const x = $("x").value, y = $("y").value, points = visible();
  const traces = policies.filter(p => shown.policy.has(p)).map(name => {
    const mine = points.filter(i => P["policy.name"][i] === name && P[x][i] !== null && P[y][i] !== null);
    return { type: "scatter", mode: "markers", name, x: mine.map(i => P[x][i]), y: mine.map(i => P[y][i]), customdata: mine,
      text: mine.map(describe), hovertemplate: `<b>${name}</b><br>%{text}<br>${label(x)}: %{x:.4g}<br>${label(y)}: %{y:.4g}<extra></extra>`,
      marker: { color: colour(name), size: mine.map(i => chosen.includes(i) ? 13 : 7), opacity: 0.75,
        line: { color: "#222", width: mine.map(i => chosen.includes(i) ? 2 : 0) } } };
  });
  const front = frontOf(points, x, y);
  traces.unshift({ type: "scatter", mode: "lines", name: "Pareto front", x: front.map(i => P[x][i]), y: front.map(i => P[y][i]),
    line: { color: "#222", width: 1, dash: "dot", shape: "hv" }, hoverinfo: "skip" });
  Plotly.react("pareto", traces, { ...AXES, height: 480, uirevision: `${x}${y}`,
    xaxis: axis(label(x), { type: $("logx").checked ? "log" : "linear" }), yaxis: axis(label(y)) }, CONFIG);
}

function classes() {
  const machines = {};
  for (const i of visible()) (machines[machine(i)] ??= []).push(i);
  const limit = $("pays").value / 100, found = [];
  for (const points of Object.values(machines)) {
    const best = wanted => Math.max(...points.filter(i => P.prefetches[i] === wanted).map(i => P.speedup[i]));
    const kept = best(false), ahead = best(true);
    if (!isFinite(kept) || !isFinite(ahead)) continue;
    const without = Math.max(1, kept), all = Math.max(without, ahead);
    const retention = 1 - 1 / without, prefetch = 1 - without / all;
    const kind = retention >= limit ? prefetch >= limit ? "both pay" : "retention pays" : prefetch >= limit ? "prefetch pays" : "neither pays";
    found.push({ i: points[0], retention, prefetch, kind, all });
  }
  return found;
}
function regimes() {
  $("paysat").textContent = `${$("pays").value} %`;
  const found = classes();
  const traces = Object.entries(CLASSES).map(([kind, tone]) => {
    const mine = found.filter(one => one.kind === kind);
    return { type: "scatter", mode: "markers", name: `${kind} (${mine.length})`, x: mine.map(one => P.link_ratio[one.i]),
      y: mine.map(one => 100 * P.buffer_share[one.i]), marker: { color: tone, size: mine.map(one => 8 + 14 * (1 - 1 / one.all)), opacity: 0.8,
        line: { color: "#555", width: 0.5 } },
      text: mine.map(one => varied.filter(n => !n.startsWith("policy.") && P[n][one.i] !== null).map(n => `${n} = ${show(P[n][one.i])}`).join("<br>")
        + `<br>retention saves ${(100 * one.retention).toFixed(1)} %<br>prefetch saves ${(100 * one.prefetch).toFixed(1)} % of the rest`),
      hovertemplate: "%{text}<extra></extra>" };
  });
  Plotly.react("regimes", traces, { ...AXES, height: 420, uirevision: "r", xaxis: axis("link time / (compute + attention time)", { type: "log" }),
    yaxis: axis("experts that have a slot, %", { type: "log" }),
    shapes: [{ type: "line", x0: 1, x1: 1, yref: "paper", y0: 0, y1: 1, line: { color: "#999", width: 1, dash: "dot" } }] }, CONFIG);
}

function stalls() {
  const names = chosen.map(title);
  Plotly.react("stalls", Object.entries(CAUSES).map(([cause, tone]) => ({ type: "bar", orientation: "h", name: cause.replace("_", " "),
    y: names, x: chosen.map(i => P[`cause_${cause}`][i]), marker: { color: tone },
    hovertemplate: `%{y}: %{x:,.0f} cycles ${cause.replace("_", " ")}<extra></extra>` })),
  { ...AXES, barmode: "stack", height: 150 + 28 * Math.max(1, chosen.length), xaxis: axis("cycles per token"),
    yaxis: axis("", { autorange: "reversed", type: "category" }) }, CONFIG);
}
function lines(where, column, x, y) {
  const traces = chosen.filter(i => P[column][i] && P[column][i].length).map(i => ({ type: "scatter", mode: "lines+markers", name: title(i),
    x: P[column][i].map((_, k) => k), y: P[column][i].map(v => 100 * v), marker: { size: 5 },
    line: { color: COLOURS[chosen.indexOf(i) % COLOURS.length] } }));
  Plotly.react(where, traces, { ...AXES, height: 340, xaxis: axis(x), yaxis: axis(y, { range: [-2, 102] }) }, CONFIG);
}

function timeline() {
  const token = DATA.tokens[$("token").value];
  $("download").disabled = !token;
  if (!token) return;
  const rows = DATA.lanes.map((_, kind) => 1 + Math.max(-1, ...token.spans.filter(s => s[0] === kind).map(s => s[1])));
  const starts = rows.map((_, kind) => rows.slice(0, kind).reduce((a, b) => a + b + 1, 0));
  const traces = DATA.lanes.map((name, kind) => {
    const mine = token.spans.filter(s => s[0] === kind);
    return { type: "bar", orientation: "h", name, base: mine.map(s => s[2]), x: mine.map(s => s[3]), y: mine.map(s => starts[kind] + s[1]),
      text: mine.map(s => s[4]), textposition: "none", marker: { color: LANE_COLOURS[kind], line: { color: "white", width: 0.5 } }, width: 0.9,
      hovertemplate: "%{text}<br>from %{base:.2f} us, %{x:.2f} us<extra></extra>" };
  });
  Plotly.react("timeline", traces, { ...AXES, barmode: "overlay", height: 160 + 13 * rows.reduce((a, b) => a + b + 1, 0),
    uirevision: $("token").value, xaxis: axis("us from the token's begin"),
    yaxis: axis("", { autorange: "reversed", tickvals: starts.map((s, k) => s + (rows[k] - 1) / 2), ticktext: DATA.lanes, showgrid: false }) }, CONFIG);
}
function download() {
  const id = $("token").value;
  const link = element("a", { download: `token-${id}.json`,
    href: URL.createObjectURL(new Blob([JSON.stringify(DATA.tokens[id].chrome)], { type: "application/json" })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// Tables.
const order = {};
function table(where, names, points, most = 300) {
  const sorted = [...points], by = order[where];
  if (by) sorted.sort((a, b) => {
    const [u, v] = [P[by.name][a], P[by.name][b]];
    return by.sign * (u === null ? (v === null ? 0 : 1) : v === null ? -1 : u < v ? -1 : u > v ? 1 : 0);
  });
  const text = name => points.some(i => typeof P[name][i] === "string");
  const head = element("tr", {}, ...names.map(name => element("th", { textContent: HEADS[name] || label(name), title: label(name), className: text(name) ? "text" : "",
    onclick: () => { order[where] = { name, sign: by && by.name === name ? -by.sign : 1 }; tables(); } })));
  $(where).replaceChildren(head, ...sorted.slice(0, most).map(i => element("tr", { className: chosen.includes(i) && where === "all" ? "chosen" : "",
    onclick: () => { if (where === "all") toggle(i); } },
  ...names.map(name => element("td", { textContent: show(P[name][i]), className: text(name) ? "text" : "" })))));
  return sorted.length;
}
const FIGURES = ["speedup", "milliseconds", "energy_mj", "mb_per_token", "coverage", "recall", "precision", "slots", "sram_mm2", "area_mm2", "link_ratio",
  "buffer_share"];
function tables() {
  table("chosen", ["id", ...varied, ...FIGURES], chosen);
  const words = $("find").value.trim().split(/\s+/).filter(Boolean);
  const line = i => ["id", ...varied].map(n => `${n}=${P[n][i]}`).join(" ");
  const points = visible().filter(i => words.every(word => line(i).includes(word)));
  const count = table("all", ["id", "front", ...varied, ...FIGURES], points);
  $("count").textContent = `${count} points${count > 300 ? ", the first 300 shown" : ""}; a click on a head sorts, on a line chooses`;
  const failed = RANGE.filter(i => P.error[i] !== null);
  $("failedbox").style.display = failed.length ? "" : "none";
  table("failed", ["id", "error", ...varied], failed);
}

function toggle(i) {
  chosen = chosen.includes(i) ? chosen.filter(j => j !== i) : [...chosen, i].slice(-MOST);
  draw();
}
function draw() {
  pareto(); regimes(); stalls(); tables();
  lines("coverage", "coverage_by_layer", "layer", "coverage, %");
  lines("recall", "recall_by_token", "token", "recall, %");
}

filters();
const ranked = Object.keys(C).filter(n => C[n].better && good.some(i => P[n][i] !== null)).map(n => [n, label(n)]);
options($("x"), ranked, DATA.cost);
options($("y"), ranked, "speedup");
options($("token"), Object.keys(DATA.tokens).map(id => [id, `${title(at[id])}: ${show(DATA.tokens[id].microseconds)} us`]));
for (const id of ["x", "y", "logx"]) $(id).onchange = pareto;
$("pays").oninput = regimes;
$("token").onchange = timeline;
$("download").onclick = download;
$("find").oninput = tables;
$("clear").onclick = () => { chosen = []; draw(); };
$("best").onclick = () => { chosen = DATA.chosen.map(id => at[id]); draw(); };
draw();
timeline();
$("pareto").on("plotly_click", event => { const i = event.points[0].customdata; if (typeof i === "number") setTimeout(() => toggle(i)); });
