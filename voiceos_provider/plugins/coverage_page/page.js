// The coverage page: reads asset events from Airflow's REST API as the user who is logged in, and draws them.

import { computeCoverage, daysOf, toExport } from "./coverage.js";

const PAGE_SIZE = 100;
const MAX_EVENTS = 5000;
const AT_ONCE = 4;
const WEEKS_OF_LARGE_CELLS = 16;
const WEEKDAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const DAY = 86_400_000;

// [api] base_url may have a path; this page is directly below it.
const BASE = location.pathname.slice(0, location.pathname.lastIndexOf("/voiceos-coverage/"));
const query = new URLSearchParams(location.search);
const scope = ["dag_id", "task_id"]
  .map((name) => [name, query.get(name)])
  .filter(([, value]) => value && !value.startsWith("{"));

const $ = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const dollars = new Intl.NumberFormat("en", { style: "currency", currency: "USD" });
const longDay = new Intl.DateTimeFormat("en", { dateStyle: "full", timeZone: "UTC" });
const month = new Intl.DateTimeFormat("en", { month: "short", year: "2-digit", timeZone: "UTC" });
const instant = (iso) => iso.replace("T", " ").replace(/(:00)?(\.\d+)?Z$/, "");
const plural = (number, one) => `${whole.format(number)} ${one}${number === 1 ? "" : "s"}`;

let events = [];
let coverages = [];
let chosen = null;

/** Return an element; text is never read as HTML. */
function element(tag, { text, classes, children = [], on = {}, ...attributes } = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (classes) made.className = classes;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  for (const [name, listener] of Object.entries(on)) made.addEventListener(name, listener);
  made.append(...children);
  return made;
}

// Airflow keeps its colour mode in the local storage of the same origin, as light, dark or system.
const prefersDark = matchMedia("(prefers-color-scheme: dark)");
function applyTheme() {
  let theme = null;
  try {
    theme = localStorage.getItem("theme");
  } catch {
    // Without access to the storage, the system decides.
  }
  const dark = theme === "dark" || (theme !== "light" && prefersDark.matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
}
applyTheme();
addEventListener("storage", applyTheme);
prefersDark.addEventListener("change", applyTheme);

/** Open a page of Airflow in its own window. */
function open(path) {
  // The frame may not navigate its parent, so that a link of the parent does.
  const link = window.parent.document.createElement("a");
  link.href = `${BASE}${path}`;
  link.click();
}

function taskInstance({ event }) {
  const [dag, run, task] = [event.source_dag_id, event.source_run_id, event.source_task_id].map(encodeURIComponent);
  const mapped = event.source_map_index >= 0 ? `/mapped/${event.source_map_index}` : "";
  return `/dags/${dag}/runs/${run}/tasks/${task}${mapped}`;
}

function linkTo(each, attributes) {
  if (!each.event.source_run_id) return element("span", attributes); // an event that a user has created
  const path = taskInstance(each);
  const follow = (click) => {
    if (click.ctrlKey || click.metaKey || click.shiftKey) return;
    click.preventDefault();
    open(path);
  };
  return element("a", { ...attributes, href: `${BASE}${path}`, on: { ...attributes.on, click: follow } });
}

class Refused extends Error {}

async function page(offset) {
  const parameters = new URLSearchParams([
    ["limit", PAGE_SIZE],
    ["offset", offset],
    ["order_by", "-timestamp"],
    ...scope.map(([name, value]) => [`source_${name}`, value]),
  ]);
  const response = await fetch(`${BASE}/api/v2/assets/events?${parameters}`, {
    credentials: "same-origin",
    headers: { Accept: "application/json" },
  });
  if (response.status === 401) throw new Refused("Your session has ended. Log in again.");
  if (response.status === 403) {
    throw new Refused("You may not read asset events. Ask an administrator for the permission to read assets.");
  }
  if (!response.ok) throw new Error(`Airflow answered with HTTP ${response.status}.`);
  return response.json();
}

async function readEvents() {
  const first = await page(0);
  const total = Math.min(first.total_entries, MAX_EVENTS);
  const found = [...first.asset_events];
  const step = first.asset_events.length || 1; // the server may have a lower limit
  const offsets = [];
  for (let at = step; at < total; at += step) offsets.push(at);
  while (offsets.length) {
    for (const each of await Promise.all(offsets.splice(0, AT_ONCE).map(page))) found.push(...each.asset_events);
  }
  return { found, cut: first.total_entries > MAX_EVENTS };
}

async function load() {
  $("message").hidden = false;
  $("message").replaceChildren("Loading …");
  try {
    const { found, cut } = await readEvents();
    const seen = new Map(found.map((event) => [event.id, event])); // an event may arrive between two pages
    events = [...seen.values()]
      .map((event) => ({ ...toExport(event.extra, event.timestamp), event }))
      .filter((each) => each.target);
    coverages = computeCoverage(events, { now: Date.now() });
    show(cut);
  } catch (error) {
    $("main").hidden = true;
    const isSession = error instanceof Refused && error.message.startsWith("Your session");
    const retry = isSession
      ? element("button", { text: "Log in again", type: "button", on: { click: () => open("/") } })
      : element("button", { text: "Try again", type: "button", on: { click: load } });
    const text = error instanceof Refused ? error.message : `The events cannot be read: ${error.message}`;
    $("message").replaceChildren(`${text} `, retry);
  }
}

function show(cut) {
  $("scope").textContent = scope.map(([name, value]) => `${name === "dag_id" ? "DAG" : "task"} ${value}`).join(", ");
  const note = cut ? `Only the latest ${whole.format(MAX_EVENTS)} asset events are read.` : "";
  $("message").hidden = coverages.length > 0 && !cut;
  $("message").textContent = coverages.length
    ? note
    : `No export yet. An export appears here when its task has published its asset event. ${note}`;
  $("main").hidden = coverages.length === 0;
  if (!coverages.length) return;
  chosen = coverages.find((each) => each.target === chosen?.target) ?? coverages[0];
  $("targets").tBodies[0].replaceChildren(...coverages.map(targetRow));
  choose(chosen.target);
}

function targetRow(coverage) {
  const choice = element("button", {
    text: coverage.target,
    type: "button",
    on: { click: () => choose(coverage.target) },
  });
  const row = element("tr", {
    children: [
      element("th", { scope: "row", children: [choice] }),
      element("td", {
        text: `${instant(coverage.interval.start)} – ${instant(coverage.interval.end)}, ${plural(coverage.exports, "interval")}`,
      }),
      element("td", {
        children: [
          `${instant(coverage.last_exported_at)} `,
          coverage.stale ? element("span", { text: "stale", classes: "tag bad" }) : element("span", { text: "fresh", classes: "tag good" }),
        ],
      }),
      element("td", { children: tags(coverage) }),
    ],
  });
  row.dataset.target = coverage.target;
  return row;
}

function tags(coverage) {
  const unusual = coverage.days.filter((day) => day.usual !== null).length;
  const found = [
    [coverage.gaps.length, "gap", "bad"],
    [coverage.overlaps.length, "overlap", "warn"],
    [unusual, "unusual day", "bad"],
    [coverage.drift.length, "schema change", "warn"],
  ].filter(([number]) => number);
  if (!found.length) return [element("span", { text: "none", classes: "tag good" })];
  return found.map(([number, name, kind]) => element("span", { text: plural(number, name), classes: `tag ${kind}` }));
}

function choose(target) {
  chosen = coverages.find((each) => each.target === target);
  for (const row of $("targets").tBodies[0].rows) {
    const isChosen = row.dataset.target === target;
    row.classList.toggle("chosen", isChosen);
    row.querySelector("button").setAttribute("aria-pressed", String(isChosen));
  }
  drawFacts(chosen);
  drawCalendar(chosen);
  drawCosts(chosen);
  drawFindings(chosen);
  showDay(chosen.days.at(-1));
}

function ago(iso) {
  const hours = (Date.now() - Date.parse(iso)) / 3_600_000;
  return hours < 1 ? "< 1 h ago" : hours < 48 ? `${Math.floor(hours)} h ago` : `${Math.floor(hours / 24)} days ago`;
}

function duration(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function drawFacts(coverage) {
  const facts = [
    ["Last export", ago(coverage.last_exported_at)],
    ["Covered until", ago(coverage.covered_until)],
    ["Conversations", whole.format(coverage.rows)],
    ["Pending", whole.format(coverage.pending)],
    ["Late arrivals", whole.format(coverage.carried)],
    ["Rejected", whole.format(coverage.rejected)],
    ["Requests", whole.format(coverage.requests)],
    ["Size", coverage.bytes ? `${short.format(coverage.bytes)}B` : "–"],
    ["Per export", duration(coverage.seconds / coverage.exports)],
    ["Cost", coverage.cost === null ? "–" : dollars.format(coverage.cost)],
  ];
  $("facts").replaceChildren(
    ...facts.map(([name, value]) =>
      element("div", { children: [element("dt", { text: name }), element("dd", { text: value })] }),
    ),
  );
}

function exportsOf(day) {
  const latest = new Map();
  for (const each of events) {
    if (each.target !== chosen.target || !daysOf(each).includes(day)) continue;
    const key = `${each.start}/${each.end}`;
    if (!latest.has(key) || latest.get(key).exportedAt < each.exportedAt) latest.set(key, each);
  }
  return [...latest.values()].sort((one, other) => one.start - other.start);
}

function levelOf(rows, most) {
  return rows > 0 && most > 0 ? Math.max(1, Math.ceil((rows / most) * 5)) : 0;
}

function describe(day) {
  const facts = [`${day.estimated ? "about " : ""}${plural(Math.round(day.rows), "conversation")}`];
  if (!day.exports) facts.splice(0, 1, "not exported");
  if (day.gap) facts.push("gap");
  if (day.overlap) facts.push("overlap");
  if (day.usual !== null) facts.push(`unusually few, the median is ${whole.format(day.usual)}`);
  return facts.join(", ");
}

function drawCalendar(coverage) {
  const calendar = $("calendar");
  const most = Math.max(...coverage.days.map((day) => day.rows));
  const byDay = new Map(coverage.days.map((day) => [day.day, day]));
  const first = Date.parse(coverage.days[0].day);
  const monday = first - ((new Date(first).getUTCDay() + 6) % 7) * DAY;
  const weeks = [];
  for (let at = monday; at <= Date.parse(coverage.days.at(-1).day); at += 7 * DAY) weeks.push(at);
  const labels = weeks.map((at, number) => {
    const starts = number === 0 ? weeks.length < 2 || new Date(at + 7 * DAY).getUTCDate() > 7 : new Date(at).getUTCDate() <= 7;
    return element("th", { scope: "col", text: starts ? month.format(at) : "", "aria-label": `week of ${longDay.format(at)}` });
  });
  const rows = WEEKDAYS.map((weekday, number) =>
    element("tr", {
      children: [
        element("th", { scope: "row", text: weekday }),
        ...weeks.map((at) => {
          const day = byDay.get(new Date(at + number * DAY).toISOString().slice(0, 10));
          return element("td", { children: day ? [cell(day, most)] : [] });
        }),
      ],
    }),
  );
  calendar.classList.toggle("large", weeks.length <= WEEKS_OF_LARGE_CELLS);
  calendar.replaceChildren(
    element("thead", { children: [element("tr", { children: [element("td"), ...labels] })] }),
    element("tbody", { children: rows }),
  );
  const cells = calendar.querySelectorAll(".cell");
  cells.forEach((each) => (each.tabIndex = -1));
  calendar.querySelector(`[data-day="${coverage.days.at(-1).day}"]`).tabIndex = 0;
  $("calendar-scroll").scrollLeft = calendar.scrollWidth;
  drawLegend(most);
}

function cell(day, most) {
  const classes = ["cell", `level-${levelOf(day.rows, most)}`];
  if (day.gap) classes.push("gap");
  if (day.overlap) classes.push("overlap");
  if (day.usual !== null) classes.push("unusual");
  const exported = exportsOf(day.day);
  const attributes = {
    classes: classes.join(" "),
    "aria-label": `${longDay.format(Date.parse(day.day))}: ${describe(day)}`,
    "data-day": day.day,
    on: { mouseenter: () => showDay(day), focus: () => showDay(day) },
    children: [element("span", { text: Number(day.day.slice(8)), classes: "number", "aria-hidden": "true" })],
  };
  if (exported.length === 1 && exported[0].event.source_run_id) return linkTo(exported[0], attributes);
  const click = () => {
    showDay(day);
    $("day").querySelector("a")?.focus();
  };
  return element("button", { ...attributes, type: "button", on: { ...attributes.on, click } });
}

$("calendar").addEventListener("keydown", (press) => {
  const steps = { ArrowUp: -1, ArrowDown: 1, ArrowLeft: -7, ArrowRight: 7 };
  const from = press.target.dataset.day;
  if (!from || !(press.key in steps)) return;
  press.preventDefault();
  const day = new Date(Date.parse(from) + steps[press.key] * DAY).toISOString().slice(0, 10);
  focusDay(day);
});

function focusDay(day) {
  const next = $("calendar").querySelector(`[data-day="${day}"]`);
  if (!next) return;
  $("calendar").querySelectorAll(".cell").forEach((each) => (each.tabIndex = -1));
  next.tabIndex = 0;
  next.focus();
}

function drawLegend(most) {
  const sample = (classes) => element("span", { classes: `cell ${classes}`, "aria-hidden": "true" });
  const scale = [0, 1, 2, 3, 4, 5].map((level) => sample(`level-${level}`));
  $("legend").replaceChildren(
    element("li", { children: ["0", ...scale, whole.format(Math.round(most))] }),
    element("li", { children: [sample("gap"), "gap"] }),
    element("li", { children: [sample("level-1 overlap"), "overlap"] }),
    element("li", { children: [sample("level-1 unusual"), "fewer than half of the weekday's median"] }),
  );
}

function showDay(day) {
  const exported = exportsOf(day.day);
  const children = [
    element("p", { children: [element("strong", { text: longDay.format(Date.parse(day.day)) })] }),
    element("p", { text: describe(day) + (day.cost === null ? "" : `, ${dollars.format(day.cost)}`) }),
  ];
  const items = exported.map((each) => {
    const bounds = `${instant(new Date(each.start).toISOString())} – ${instant(new Date(each.end).toISOString())}`;
    const details = [
      plural(each.rows, "conversation"),
      each.pending ? `${whole.format(each.pending)} pending` : "",
      each.rejected ? `${whole.format(each.rejected)} rejected` : "",
      plural(each.requests, "request"),
      each.bytes ? `${short.format(each.bytes)}B` : "",
      duration(each.seconds),
    ].filter(Boolean);
    return element("li", { children: [linkTo(each, { text: bounds }), `: ${details.join(", ")}`] });
  });
  if (items.length) children.push(element("ul", { children: items }));
  $("day").replaceChildren(...children);
}

function drawFindings(coverage) {
  const finding = (kind, name, text, day) =>
    element("li", {
      children: [
        element("span", { text: name, classes: `tag ${kind}` }),
        day ? element("button", { text, type: "button", on: { click: () => focusDay(day) } }) : text,
      ],
    });
  const range = (each) => `${instant(each.start)} – ${instant(each.end)}`;
  const dayOf = (each) => daysOf({ start: Date.parse(each.start), end: Date.parse(each.end) })[0];
  const drifts = { field: "new field", value: "new value", type: "other type" };
  const items = [
    ...(coverage.stale ? [finding("bad", "stale", `Nothing after ${instant(coverage.covered_until)}`)] : []),
    ...coverage.gaps.map((each) => finding("bad", "gap", range(each), dayOf(each))),
    ...coverage.overlaps.map((each) => finding("warn", "overlap", range(each), dayOf(each))),
    ...coverage.days
      .filter((day) => day.usual !== null)
      .map((day) =>
        finding("bad", "unusual day", `${day.day}: ${whole.format(day.rows)} instead of about ${whole.format(day.usual)}`, day.day),
      ),
    ...coverage.drift.map((each) =>
      finding("warn", drifts[each.kind], `${each.name}, first on ${each.first_seen.slice(0, 10)} (${whole.format(each.count)})`, dayOfDrift(each)),
    ),
  ];
  $("findings").replaceChildren(...(items.length ? items : [element("li", { text: "Complete: nothing is missing, and nothing is unusual." })]));
}

function dayOfDrift({ first_seen }) {
  const export_ = events.find((each) => each.target === chosen.target && each.start === Date.parse(first_seen));
  return export_ ? daysOf(export_)[0] : null;
}

function drawCosts(coverage) {
  const days = coverage.days.slice(-120);
  const most = Math.max(0, ...days.map((day) => day.cost ?? 0));
  $("costs").hidden = most === 0;
  if (most === 0) return;
  const bars = days.map((day, number) => {
    const height = ((day.cost ?? 0) / most) * 100;
    const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const [name, value] of Object.entries({ x: number + 0.1, y: 100 - height, width: 0.8, height })) bar.setAttribute(name, value);
    const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
    title.textContent = `${day.day}: ${day.cost === null ? "no cost" : dollars.format(day.cost)}`;
    bar.append(title);
    return bar;
  });
  $("cost-bars").setAttribute("viewBox", `0 0 ${days.length} 100`);
  $("cost-bars").replaceChildren(...bars);
  const text = `${days[0].day} to ${days.at(-1).day}; at most ${dollars.format(most)} on a day.`;
  $("cost-bars").setAttribute("aria-label", `Cost per day, ${text}`);
  $("cost-note").textContent = text;
}

$("reload").addEventListener("click", load);
load();
