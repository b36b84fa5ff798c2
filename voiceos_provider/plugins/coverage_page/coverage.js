// Coverage of targets, computed from receipts: the arithmetic of voiceos_provider/load/coverage.py.
// A test runs both over the same receipts. Instants are milliseconds here.

export const ANOMALY_SHARE = 0.5;
export const ANOMALY_WEEKS = 8;
export const ANOMALY_MIN_WEEKS = 3;
export const ANOMALY_MIN_MEDIAN = 20;
export const STALE_INTERVALS = 2;

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const LONGEST_DAY = 25 * HOUR;
const SHORTEST_DAY = 23 * HOUR;
const COUNTS = ["pending", "carried", "abandoned", "rejected", "requests"];

const sum = (numbers) => numbers.reduce((total, each) => total + each, 0);
const rounded = (number, digits) => Math.round(number * 10 ** digits) / 10 ** digits;
const compare = (one, other) => (one < other ? -1 : one > other ? 1 : 0);
const plain = (value) => (typeof value === "string" ? JSON.parse(value) : value);
const isoInstant = (at) => new Date(at).toISOString().replace(/\.000Z$/, "Z");
const isoDay = (at) => new Date(at).toISOString().slice(0, 10);
const isoInterval = ({ start, end }) => ({ start: isoInstant(start), end: isoInstant(end) });

/** Return the export that a receipt describes, or null if it is not a receipt. */
export function toExport(receipt, publishedAt = null) {
  if (!receipt || !receipt.target || receipt.exported == null) return null;
  const start = Date.parse(receipt.interval_start);
  const end = Date.parse(receipt.interval_end);
  const exportedAt = Date.parse(receipt.exported_at);
  if (!(start < end) || Number.isNaN(exportedAt)) return null;
  const counts = Object.fromEntries(COUNTS.map((name) => [name, Number(receipt[name] ?? 0)]));
  return {
    target: receipt.target,
    start,
    end,
    exportedAt,
    rows: Number(receipt.exported),
    ...counts,
    bytes: sum((plain(receipt.files) ?? []).map((file) => file.bytes)),
    seconds: publishedAt === null ? 0 : (Date.parse(publishedAt) - exportedAt) / 1000,
    cost: receipt.cost ?? null,
    drift: driftOf(receipt),
  };
}

function driftOf(receipt) {
  const found = [];
  for (const [name, count] of Object.entries(plain(receipt.undocumented_fields) ?? {})) {
    found.push({ kind: "field", name, count });
  }
  for (const [name, count] of Object.entries(plain(receipt.invalid_values) ?? {})) {
    found.push({ kind: "type", name, count });
  }
  for (const [name, values] of Object.entries(plain(receipt.undocumented_values) ?? {})) {
    for (const value of values) found.push({ kind: "value", name: `${name} = ${value}`, count: 1 });
  }
  return found;
}

/** Return the coverage of each target, in the order of their names. */
export function computeCoverage(exports, { now, required = null, maxAge = null }) {
  const targets = new Map();
  for (const each of [...exports].sort((one, other) => one.exportedAt - other.exportedAt)) {
    if (!targets.has(each.target)) targets.set(each.target, new Map());
    targets.get(each.target).set(`${each.start}/${each.end}`, each);
  }
  return [...targets]
    .sort(([one], [other]) => compare(one, other))
    .map(([target, found]) => coverageOf(target, [...found.values()], now, required, maxAge));
}

function coverageOf(target, found, now, required, maxAge) {
  const exports = [...found].sort((one, other) => one.start - other.start || one.end - other.end);
  const last = exports.reduce((one, other) =>
    other.end > one.end || (other.end === one.end && other.start > one.start) ? other : one,
  );
  const whole = {
    start: Math.min(exports[0].start, required?.start ?? Infinity),
    end: Math.max(last.end, required?.end ?? -Infinity),
  };
  const gaps = gapsOf(whole, exports);
  const overlaps = overlapsOf(exports);
  const costs = exports.map((each) => each.cost).filter((cost) => cost !== null);
  const totals = Object.fromEntries(
    [...COUNTS, "rows", "bytes"].map((name) => [name, sum(exports.map((each) => each[name]))]),
  );
  return {
    target,
    interval: isoInterval(whole),
    exports: exports.length,
    ...totals,
    gaps: gaps.map(isoInterval),
    overlaps: overlaps.map(isoInterval),
    last_exported_at: isoInstant(Math.max(...exports.map((each) => each.exportedAt))),
    covered_until: isoInstant(last.end),
    stale: now - last.end > (maxAge ?? STALE_INTERVALS * (last.end - last.start)),
    seconds: rounded(sum(exports.map((each) => each.seconds)), 3),
    cost: costs.length ? rounded(sum(costs), 6) : null,
    drift: firstSeen(exports),
    days: daysOfTarget(exports, gaps, overlaps),
  };
}

function gapsOf(whole, exports) {
  const gaps = [];
  let at = whole.start;
  for (const { start, end } of exports) {
    if (start > at) gaps.push({ start: at, end: start });
    at = Math.max(at, end);
  }
  if (at < whole.end) gaps.push({ start: at, end: whole.end });
  return gaps;
}

function overlapsOf(exports) {
  const found = [];
  let end = exports[0].end;
  for (const each of exports.slice(1)) {
    if (each.start < end) {
      const until = Math.min(end, each.end);
      const before = found.at(-1);
      if (before && each.start <= before.end) before.end = Math.max(before.end, until);
      else found.push({ start: each.start, end: until });
    }
    end = Math.max(end, each.end);
  }
  return found;
}

function firstSeen(exports) {
  const found = new Map();
  for (const each of exports) {
    for (const { kind, name, count } of each.drift) {
      const key = JSON.stringify([kind, name]);
      if (!found.has(key)) found.set(key, { kind, name, count: 0, first_seen: isoInstant(each.start) });
      found.get(key).count += count;
    }
  }
  return [...found.values()].sort(
    (one, other) =>
      compare(Date.parse(one.first_seen), Date.parse(other.first_seen)) ||
      compare(one.kind, other.kind) ||
      compare(one.name, other.name),
  );
}

/** Return the days in UTC to which an interval belongs: the one of its middle, or those whose noon is in it. */
export function daysOf({ start, end }) {
  if (end - start <= LONGEST_DAY) return [isoDay(start + Math.floor((end - start) / 2))];
  let noon = Date.parse(`${isoDay(start)}T12:00:00Z`);
  if (noon < start) noon += DAY;
  const days = [];
  for (; noon < end; noon += DAY) days.push(isoDay(noon));
  return days;
}

function daysOfTarget(exports, gaps, overlaps) {
  const shares = new Map();
  for (const each of exports) {
    const belongsTo = daysOf(each);
    for (const day of belongsTo) {
      if (!shares.has(day)) shares.set(day, []);
      shares.get(day).push({ ...each, days: belongsTo.length });
    }
  }
  const withGap = new Set(gaps.flatMap(daysOf));
  const withOverlap = new Set(overlaps.flatMap(daysOf));
  const present = [...shares.keys(), ...withGap, ...withOverlap].sort();
  const earlier = new Map();
  const days = [];
  for (let at = Date.parse(present[0]); at <= Date.parse(present.at(-1)); at += DAY) {
    const day = isoDay(at);
    const exported = shares.get(day) ?? [];
    const covered = sum(exported.map((each) => (each.end - each.start) / each.days));
    const weight = covered <= LONGEST_DAY ? 1 : DAY / covered;
    const rows = sum(exported.map((each) => each.rows / each.days)) * weight;
    const costs = exported.filter((each) => each.cost !== null).map((each) => each.cost / each.days);
    const estimated = weight < 1 || exported.some((each) => each.days > 1);
    let usual = null;
    if (covered >= SHORTEST_DAY && !estimated) {
      const weekday = new Date(at).getUTCDay();
      if (!earlier.has(weekday)) earlier.set(weekday, []);
      usual = usualOf(rows, earlier.get(weekday).slice(-ANOMALY_WEEKS));
      earlier.get(weekday).push(rows);
    }
    days.push({
      day,
      rows: rounded(rows, 3),
      exports: exported.length,
      cost: costs.length ? rounded(sum(costs) * weight, 6) : null,
      estimated,
      gap: withGap.has(day),
      overlap: withOverlap.has(day),
      usual,
    });
  }
  return days;
}

function usualOf(rows, earlier) {
  if (earlier.length < ANOMALY_MIN_WEEKS) return null;
  const sorted = [...earlier].sort((one, other) => one - other);
  const middle = Math.floor(sorted.length / 2);
  const usual = sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  return usual >= ANOMALY_MIN_MEDIAN && rows < ANOMALY_SHARE * usual ? usual : null;
}
