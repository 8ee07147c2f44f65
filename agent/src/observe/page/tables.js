// Tables whose rows come and go by key.


const COLUMNS = [
  ["asked", "Asked"], ["table", "Table"], ["observed", "Observed", "wide"], ["bar", "Share", "wide"],
  ["rate", "New/s"], ["open", "Open"], ["success", "Success"], ["p50", "p50"], ["p99", "p99"],
  ["refused", "Refused"], ["unanswered", "Un\u00adanswered"], ["resets", "Resets"], ["retransmissions", "SYN again"],
  ["backends", "Backends"],
];
const BACKEND_COLUMNS = [
  ["state", "State", "text"], ["check", "Check", "text"], ["share", "Table"], ["rate", "New/s"], ["success", "Success"],
  ["p50", "p50"], ["p99", "p99"], ["refused", "Refused"], ["unanswered", "Un\u00adanswered"], ["resets", "Resets"],
  ["hop", "Next hop", "text"], ["connections", "In all"],
];

/** A table whose rows come and go by key. Roles are named: narrow screens draw it as cards. */
function table(caption, first, columns) {
  const body = make("tbody", { role: "rowgroup" });
  const head = make("tr", { role: "row" }, make("th", { scope: "col", role: "columnheader" }, first));
  for (const [, label, style = ""] of columns) head.append(make("th", { scope: "col", role: "columnheader", class: style }, label));
  const element = make("table", { class: "cards", role: "table" },
    make("caption", { class: "hidden" }, caption), make("thead", { role: "rowgroup" }, head), body);
  return { element, body, columns, rows: new Map() };
}

/** The row of a key: made if it is new. */
function row(of, key, title) {
  let found = of.rows.get(key);
  if (found) return found;
  const cells = {};
  const element = make("tr", { role: "row" }, make("th", { scope: "row", role: "rowheader" }, title));
  for (const [field, label, style = ""] of of.columns) {
    cells[field] = make("td", { role: "cell", class: style, "data-label": label, "data-field": field });
    element.append(cells[field]);
  }
  found = { element, cells };
  of.rows.set(key, found);
  return found;
}

/** Leaves these rows, in this order. */
function keep(of, keys) {
  for (const [key, { element }] of of.rows) if (!keys.includes(key)) { element.remove(); of.rows.delete(key); }
  keys.forEach((key, place) => {
    const { element } = of.rows.get(key);
    if (of.body.children[place] !== element) of.body.insertBefore(element, of.body.children[place] ?? null);
  });
}

function cell(element, text, wrong) {
  say(element, text);
  element.classList.toggle("bad", Boolean(wrong));
  element.classList.toggle("idle", text === "0" || text === "–");
  if (wrong) attribute(element, "title", wrong); else element.removeAttribute("title");
}

const swatch = (version) => make("span", { class: `swatch ${version}`, "aria-hidden": "true" }, version[0].toUpperCase());

function titled(version, release) {
  return make("span", { class: "name" }, swatch(version), version, make("small", {}, release));
}

/** Table share as a bar, the weight asked for as a tick, the observed interval as a line with a point. */
function bar(version) {
  const part = (name, className, more = {}) => make(name, { class: className, ...more });
  const parts = {
    table: part("rect", "table", { x: 0, y: 2, height: 10, width: 0 }),
    seen: part("line", "seen", { y1: 7, y2: 7, x1: 0, x2: 0 }),
    point: part("circle", "point", { cy: 7, r: 4, cx: 0 }),
    asked: part("line", "asked", { y1: 0, y2: 14, x1: 0, x2: 0 }),
  };
  const element = make("svg", { class: `bar ${version}`, viewBox: "-4 0 128 14", "aria-hidden": "true" },
    part("rect", "track", { x: 0, y: 2, width: 120, height: 10 }), parts.table, parts.seen, parts.point, parts.asked);
  return { element, parts };
}

function drawBar({ parts }, v) {
  const x = (share) => (share * 120).toFixed(1);
  const seen = v.observed.total > 0;
  attribute(parts.table, "width", x(v.table));
  for (const end of ["x1", "x2"]) attribute(parts.asked, end, x(v.asked));
  attribute(parts.seen, "x1", x(v.observed.low));
  attribute(parts.seen, "x2", x(v.observed.high));
  attribute(parts.point, "cx", x(v.observed.share));
  for (const part of [parts.seen, parts.point]) attribute(part, "visibility", seen ? "visible" : "hidden");
}
