// Draws what /events tells, once a second. Text goes in as text, never as markup.

const VERSIONS = ["blue", "green", "canary"];
const MINUTES = 5;
const MOST_SERVICES = 40;
const SVG = "http://www.w3.org/2000/svg";
const WARNS = new Set(["drain-over", "lease-expired", "store-failed", "backend-down", "version-empty"]);

// ---- small helpers ----------------------------------------------------------

const $ = (id) => document.getElementById(id);

/** An element with attributes and children; strings become text. */
function make(name, attributes = {}, ...children) {
  const svg = ["svg", "path", "line", "rect", "circle"].includes(name);
  const element = svg ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Sets text only where it differs, so that nothing is drawn or read out again without need. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function attribute(element, name, value) {
  if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const count = (n) => whole.format(n).replaceAll(",", "\u202f");
const percent = (share, digits) => (share * 100).toFixed(digits ?? (share > 0 && share < 0.0995 ? 2 : 1)) + "\u202f%";
const rate = (n) => (n === null ? "–" : n >= 100 ? count(n) : n.toFixed(1));

/** Microseconds, with three digits. */
function time(us) {
  if (us === null) return "–";
  const [value, unit] = us < 1000 ? [us, "µs"] : us < 1e6 ? [us / 1000, "ms"] : [us / 1e6, "s"];
  return value.toFixed(unit === "µs" || value >= 100 ? 0 : value >= 10 ? 1 : 2) + "\u202f" + unit;
}

/** Success is never rounded up to 100 %. */
function success(share) {
  if (share === null) return "–";
  return share === 1 ? "100\u202f%" : (Math.floor(share * 1e4) / 100).toFixed(2) + "\u202f%";
}

function span(seconds) {
  const [d, h, m] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  return d ? `${d}d ${h}h` : h ? `${h}h ${m}m` : m ? `${m}m ${Math.floor(seconds % 60)}s` : `${Math.floor(seconds)}s`;
}

const clock = (at) => new Date(at).toLocaleTimeString("en-GB");

// ---- judging ----------------------------------------------------------------

const exists = (v) => v.asked > 0 || v.backends.all > 0 || v.open > 0;

/** What is worse about a version than about the baseline, by field; only where there is enough to tell. */
function faults(version, base) {
  const found = {};
  const enough = version.ended >= 20;
  const share = (v, field) => v[field] / Math.max(1, v.ended);
  if (enough && version.success < 0.99 && version.success < (base?.success ?? 1)) {
    found.success = `success ${success(version.success)}`;
  }
  if (!base || base === version) return found;
  for (const [field, text] of [["refused", "refuses"], ["unanswered", "does not answer"]]) {
    if (enough && share(version, field) > 0.01 + 2 * share(base, field)) {
      found[field] = `${text} ${percent(share(version, field), 1)} of its connections`;
    }
  }
  if (enough && share(version, "resets") > 0.02 + 2 * share(base, "resets")) {
    found.resets = `resets ${percent(share(version, "resets"), 1)} of its connections`;
  }
  if (enough && base.ended >= 20 && version.p99_us > 2 * base.p99_us && version.p99_us > base.p99_us + 500) {
    found.p99 = `p99 ${time(version.p99_us)}, ${(version.p99_us / base.p99_us).toFixed(1)} times that of ${base.version}`;
  }
  return found;
}

/** The version to compare with: the one with most connections that ended well. */
function baseline(versions) {
  const some = versions.filter((v) => v.ended >= 20);
  return some.sort((a, b) => b.asked - a.asked || b.ended - a.ended)[0];
}

// ---- tables -----------------------------------------------------------------

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

// ---- charts -----------------------------------------------------------------

/** Lines over the last minutes: `draw(points, now, ticks, y)`. `ticks`: [[value, label]]. */
function chart(title, note) {
  const WIDTH = 300, HEIGHT = 100;
  const svg = make("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  const box = make("div", { class: "chart" }, svg);
  const key = make("span", { class: "key", "aria-hidden": "true" });
  const keys = Object.fromEntries(VERSIONS.map((version) => {
    const line = make("svg", { viewBox: "0 0 22 6" }, make("path", { class: `curve ${version}`, d: "M0 3H22" }));
    const one = make("span", {}, line, version);
    key.append(one);
    return [version, one];
  }));
  const element = make("figure", {}, make("figcaption", {}, make("span", {}, title), key), box,
    make("div", { class: "ago", "aria-hidden": "true" }, make("span", {}, `${MINUTES} min ago`), make("span", {}, note), make("span", {}, "now")));
  const ago = element.querySelector(".ago").firstChild;
  const curves = {};
  let drawn = "", length = MINUTES * 60000;
  /** As long as there is something to show of, in whole minutes. */
  function fit(points, now) {
    const minutes = Math.min(MINUTES, Math.max(1, Math.ceil((now - points[0].at) / 60000)));
    length = minutes * 60000;
    say(ago, `${minutes} min ago`);
  }
  function grid(ticks, y) {
    const text = JSON.stringify(ticks);
    if (text === drawn) return;
    drawn = text;
    for (const old of box.querySelectorAll(".tick")) old.remove();
    for (const old of svg.querySelectorAll(".grid")) old.remove();
    for (const [value, label] of ticks) {
      svg.prepend(make("line", { class: "grid", x1: 0, x2: WIDTH, y1: y(value), y2: y(value) }));
      const tick = make("span", { class: "tick", "aria-hidden": "true" }, label);
      tick.style.top = `${(y(value) / HEIGHT) * 110}px`;
      box.append(tick);
    }
  }
  /** `points`: [[ms, value or null]]. */
  function curve(name, className, points, now, y) {
    curves[name] ??= svg.appendChild(make("path", { class: `curve ${className}` }));
    let path = "", pen = "M";
    for (const [at, value] of points) {
      if (value === null) { pen = "M"; continue; }
      path += `${pen}${(WIDTH * (1 - (now - at) / length)).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = "L";
    }
    attribute(curves[name], "d", path || "M0 0");
  }
  return { element, svg, keys, fit, grid, curve, HEIGHT };
}

function drawShare(one, history, now, shown) {
  const y = (share) => one.HEIGHT * (1 - share);
  one.fit(history.points, now);
  one.grid([[0, "0 %"], [0.5, "50 %"], [1, "100 %"]], y);
  for (const version of VERSIONS) {
    one.curve(`asked-${version}`, `${version} asked`, history.points.map((p) => [p.at, p[version]?.asked ?? null]), now, y);
    one.curve(version, version, history.points.map((p) => [p.at, p[version]?.share ?? null]), now, y);
  }
  const last = history.points.at(-1);
  const words = shown.map((version) => {
    const share = last?.[version]?.share;
    return `${version} ${share === null || share === undefined ? "unknown" : percent(share)}`;
  });
  attribute(one.svg, "aria-label", `Share of new connections: ${words.join(", ")}`);
}

function drawTime(one, history, now, shown) {
  const values = history.points.flatMap((p) => VERSIONS.map((version) => p[version]?.p99 ?? 0)).filter((us) => us > 0);
  // Powers of ten that hold all of them.
  const low = Math.floor(Math.log10(Math.min(...values, 1e9))), high = Math.ceil(Math.log10(Math.max(...values, 1)));
  const [from, to] = values.length ? [low, Math.max(high, low + 1)] : [2, 4];
  const y = (us) => one.HEIGHT * (1 - (Math.log10(us) - from) / (to - from));
  one.fit(history.points, now);
  const step = Math.ceil((to - from) / 4), ticks = [];
  for (let power = from; power <= to; power += step) ticks.push([10 ** power, time(10 ** power).replace(".00", "").replace(".0", "")]);
  one.grid(ticks, y);
  for (const version of VERSIONS) one.curve(version, version, history.points.map((p) => [p.at, p[version]?.p99 || null]), now, y);
  const last = history.points.at(-1);
  attribute(one.svg, "aria-label", `99th percentile of handshake times: ${shown.map((v) => `${v} ${time(last?.[v]?.p99 ?? null)}`).join(", ")}`);
}

// ---- a service --------------------------------------------------------------

const histories = new Map();
const cards = new Map();

/** Takes a look into the history of a service. Another epoch is a gap. */
function remember(service, at, epoch) {
  const history = histories.get(service.name) ?? { points: [], epoch };
  histories.set(service.name, history);
  const gap = history.points.length && (epoch !== history.epoch || at - history.points.at(-1).at > 4000);
  if (gap) history.points.push({ at: at - 1 });
  history.epoch = epoch;
  const total = service.versions.reduce((sum, v) => sum + (v.rate ?? 0), 0);
  const point = { at };
  for (const v of service.versions.filter(exists)) {
    point[v.version] = { asked: v.asked, share: total > 0 ? (v.rate ?? 0) / total : null, p99: v.p99_us };
  }
  history.points.push(point);
  while (history.points[0].at < at - MINUTES * 60000) history.points.shift();
}

function makeCard(name) {
  const id = `service-${name}`;
  const card = {
    meta: make("span"), verdict: make("p", { class: "verdict", hidden: "" }), moving: make("ul", { class: "moving", hidden: "" }),
    versions: table(`Versions of ${name}`, "Version", COLUMNS), bars: {},
    share: chart("Share of new connections", "thin: asked"), time: chart("Handshake p99", "log scale"),
    backends: table(`Backends of ${name}`, "Backend", BACKEND_COLUMNS),
    summary: make("summary", {}, "Backends"),
  };
  card.details = make("details", {}, card.summary, make("div", { class: "scroll" }, card.backends.element));
  card.details.addEventListener("toggle", () => card.details.open && fetchBackends(name, card));
  card.element = make("section", { class: "card", "aria-labelledby": id, "data-service": name },
    make("div", { class: "top" }, make("h2", { id }, name), card.meta), card.verdict,
    make("div", { class: "scroll" }, card.versions.element), card.moving,
    make("div", { class: "charts" }, card.share.element, card.time.element), card.details);
  return card;
}

function drawCard(card, service, drains, at) {
  const s = service.steering;
  say(card.meta, [service.listeners.join(", "), service.forwarding, `generation ${service.generation}`,
    s ? `${s} steering ${s === 1 ? "rule" : "rules"}` : "", service.lease ? `lease: ${service.lease}` : ""].filter(Boolean).join(" · "));
  const shown = service.versions.filter(exists);
  const base = baseline(shown);
  const wrongs = [];
  for (const v of shown) {
    const { element, cells } = row(card.versions, v.version, titled(v.version, v.release));
    element.classList.toggle("resting", v.asked === 0 && !v.rate);
    const wrong = faults(v, base);
    if (Object.keys(wrong).length) wrongs.push(`${v.version}: ${Object.values(wrong).join("; ")}`);
    cell(cells.asked, percent(v.asked));
    cell(cells.table, percent(v.table));
    const o = v.observed;
    const off = o.total > 0 && (o.low > v.table + 1e-9 || o.high < v.table - 1e-9);
    cell(cells.observed, o.total ? `${percent(o.share)} (${percent(o.low)} – ${percent(o.high)})` : "–",
      off && "the table's share is outside of the interval");
    // Drawn in the row's own cell, which may be a new one.
    if (!cells.bar.firstChild) cells.bar.append((card.bars[v.version] = bar(v.version)).element);
    drawBar(card.bars[v.version], v);
    cell(cells.rate, rate(v.rate));
    cell(cells.open, count(v.open));
    cell(cells.success, success(v.success), wrong.success);
    cell(cells.p50, time(v.p50_us));
    cell(cells.p99, time(v.p99_us), wrong.p99);
    for (const field of ["refused", "unanswered", "resets", "retransmissions"]) cell(cells[field], count(v[field]), wrong[field]);
    const b = v.backends;
    cell(cells.backends, b.active === b.all ? count(b.all) : `${b.active} of ${b.all}`, b.active === 0 && v.asked > 0 && "none takes connections");
  }
  keep(card.versions, shown.map((v) => v.version));
  card.verdict.hidden = !wrongs.length;
  say(card.verdict, wrongs.length ? `Worse than ${base?.version ?? "it should be"} – ${wrongs.join(" – ")}` : "");
  drawMoving(card.moving, drains);
  const names = shown.map((v) => v.version), history = histories.get(service.name);
  drawShare(card.share, history, at, names);
  drawTime(card.time, history, at, names);
  for (const one of [card.share, card.time]) for (const v of VERSIONS) one.keys[v].hidden = !names.includes(v);
  const all = shown.reduce((sum, v) => sum + v.backends.all, 0), down = shown.reduce((sum, v) => sum + v.backends.down, 0);
  say(card.summary, `Backends: ${all}${down ? `, ${down} down` : ""}`);
}

/** What drains, and whether it may be stopped. */
function drawMoving(list, drains) {
  const lines = drains.map((d) => {
    const answer = { yes: "may be stopped", no: "may not be stopped yet", unknown: "not known whether it may be stopped" }[d.may_stop];
    const more = [d.why, d.flows ? `${count(d.flows)} flows` : "", d.settles_in_s ? `settles in ${span(d.settles_in_s)}` : "",
      d.deadline_in_s === null ? "" : d.deadline_in_s < 0 ? `over for ${span(-d.deadline_in_s)}` : `over in ${span(d.deadline_in_s)}`];
    return [`${d.version}${d.backend ? ` ${d.backend}` : ""}`, `: ${answer}. ${d.reason} (${more.filter(Boolean).join(", ")})`];
  });
  list.hidden = !lines.length;
  const text = JSON.stringify(lines);
  if (list.dataset.drawn === text) return;
  list.dataset.drawn = text;
  list.replaceChildren(...lines.map(([what, rest]) => make("li", {}, make("b", {}, what), rest)));
}

async function fetchBackends(name, card) {
  try {
    const answer = await fetch(`/services/${encodeURIComponent(name)}`, { signal: AbortSignal.timeout(5000) });
    if (answer.ok) drawBackends(card, await answer.json());
  } catch { /* the page says that there is no connection */ }
}

function drawBackends(card, detail) {
  const keys = [];
  for (const version of VERSIONS) {
    const all = detail.versions[version];
    const base = baseline(all.map((b) => ({ ...b, asked: 0 })));
    for (const b of all) {
      const key = `${version} ${b.address}`;
      keys.push(key);
      const { cells } = row(card.backends, key, titled(version, b.address));
      const wrong = faults({ ...b, version: b.address }, base && { ...base, version: base.address });
      cell(cells.state, b.state, b.state === "down" && "down");
      cell(cells.check, b.health ? (b.health.failing ? b.health.error ?? "failing" : "up") : "none", b.health?.failing && "its check fails");
      cell(cells.share, percent(b.share));
      cell(cells.rate, rate(b.rate));
      cell(cells.success, success(b.success), wrong.success);
      cell(cells.p50, time(b.p50_us));
      cell(cells.p99, time(b.p99_us), wrong.p99);
      for (const field of ["refused", "unanswered", "resets"]) cell(cells[field], count(b[field]), wrong[field]);
      cell(cells.hop, b.next_hop.interface ?? "by the kernel");
      cell(cells.connections, count(b.connections));
    }
  }
  keep(card.backends, keys);
}

// ---- the node ---------------------------------------------------------------

function plain(head, rows) {
  const words = (text) => (typeof text === "string" && !/^[\d–]/.test(text) ? { class: "text" } : {});
  const cells = (line) => line.map((text, place) => (place ? make("td", words(text), text) : make("th", { scope: "row" }, text)));
  return make("table", {},
    make("thead", {}, make("tr", {}, ...head.map((text, place) => make("th", { scope: "col", ...words(rows[0]?.[place] ?? "") }, text)))),
    make("tbody", {}, ...rows.map((line) => make("tr", {}, ...cells(line)))));
}

/** Replaces what a box holds, if it is something else. */
function replace(box, key, build) {
  const text = JSON.stringify(key);
  if (box.dataset.drawn === text) return;
  box.dataset.drawn = text;
  box.replaceChildren(build());
}

function meter(share) {
  const inner = make("i");
  inner.style.width = `${Math.min(100, share * 100)}%`;
  return make("span", { class: "meter", "aria-hidden": "true" }, inner);
}

function drawNode(look) {
  const { node } = look;
  say($("host"), look.host);
  document.title = `weir ${look.host}`;
  say($("node-line"), `commit ${node.generation} · up ${span(node.uptime_s)} · ${node.version} · Linux ${node.kernel}`);
  say($("window"), look.window_s >= 1 ? look.window_s.toFixed(0) : "30");
  const { warnings } = node;
  $("warnings").hidden = !warnings.length;
  replace($("warnings").querySelector("ul"), warnings, () => {
    const lines = document.createDocumentFragment();
    lines.append(...warnings.map((text) => make("li", {}, text)));
    return lines;
  });
  const drops = look.drops.map((d) => [`${d.reason}`, d.hook, count(d.packets), rate(d.rate)]);
  replace($("drops"), drops, () => (drops.length ? plain(["Reason", "Hook", "In all", "A second"], drops) : make("p", { class: "soft" }, "none")));
  const interfaces = node.interfaces.map((i) => [i.name, i.actual ?? "–", i.state]);
  replace($("interfaces"), interfaces, () => plain(["Name", "Mode", "State"], interfaces));
  replace($("capacity"), node.capacity, () => plain(["Resource", "Used", "Of", ""],
    node.capacity.map((c) => [c.resource.replaceAll("_", " "), count(c.used), count(c.limit), meter(c.limit ? c.used / c.limit : 0)])));
}

let lastEvent = null;

function drawEvents(events) {
  const newest = events.at(-1)?.id ?? 0;
  if (lastEvent === newest) return;
  $("events").replaceChildren(...events.toReversed().map((e) => make("li", { "data-kind": e.kind },
    make("time", { datetime: e.time }, clock(e.time)), make("span", { class: WARNS.has(e.kind) ? "kind warns" : "kind" }, e.kind),
    make("span", { class: "text" }, make("span", { class: "of" }, e.service ?? ""), e.service ? " " : "", e.text))));
  // Not what had happened before the page was opened.
  const fresh = lastEvent === null || newest < lastEvent ? [] : events.filter((e) => e.id > lastEvent);
  if (fresh.length) say($("said"), fresh.map((e) => `${e.service ?? "node"}: ${e.text}`).join(". "));
  lastEvent = newest;
}

// ---- all of it --------------------------------------------------------------

/** Takes a look in, and draws it. */
function take(look) {
  for (const service of look.services) remember(service, look.time_ms, look.node.epoch);
  draw(look);
}

function draw(look) {
  drawNode(look);
  const names = new Set(look.services.map((service) => service.name));
  for (const name of histories.keys()) if (!names.has(name)) histories.delete(name);
  const wanted = $("filter").value.trim().toLowerCase();
  const matching = look.services.filter((service) => service.name.includes(wanted));
  const shown = matching.slice(0, MOST_SERVICES);
  $("find").hidden = look.services.length <= 6;
  say($("found"), matching.length > shown.length ? `${shown.length} of ${matching.length} are shown` : `${matching.length} of ${look.services.length}`);
  $("services").classList.toggle("many", shown.length > 12);
  $("none").hidden = look.services.length > 0;
  const keys = new Set(shown.map((service) => service.name));
  for (const [name, card] of cards) if (!keys.has(name)) { card.element.remove(); cards.delete(name); }
  shown.forEach((service, place) => {
    let card = cards.get(service.name);
    if (!card) cards.set(service.name, (card = makeCard(service.name)));
    if ($("services").children[place] !== card.element) $("services").insertBefore(card.element, $("services").children[place] ?? null);
    drawCard(card, service, look.drains.filter((d) => d.service === service.name), look.time_ms);
    if (card.details.open) fetchBackends(service.name, card);
  });
  drawEvents(look.events);
}

let heard = 0, lost = Date.now(), latest = null;

function link(text, state) {
  say($("link-text"), text);
  $("link").className = state;
  document.body.classList.toggle("stale", state === "lost" && latest !== null);
}

function connect() {
  const source = new EventSource("/events");
  source.onmessage = ({ data }) => {
    const look = JSON.parse(data);
    heard = Date.now();
    if (look.trouble) { link(`no answer from the node: ${look.trouble}`, "lost"); return; }
    latest = look;
    lost = 0;
    link("live", "live");
    take(look);
  };
  source.onerror = () => {
    lost ||= Date.now();
    // It tries again by itself, but after a refusal.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 1000);
  };
}

setInterval(() => {
  if (heard && !lost && Date.now() - heard > 4000) lost = heard;
  if (lost) link(`no connection since ${clock(lost)}; trying again`, "lost");
}, 500);

$("filter").addEventListener("input", () => latest && draw(latest));

// ---- light and dark ---------------------------------------------------------

const THEMES = ["auto", "light", "dark"];

function theme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = name;
  say($("theme"), `Theme: ${name}`);
  try { localStorage.setItem("theme", name); } catch { /* it is not kept then */ }
}

let chosen = "auto";
try { chosen = THEMES.includes(localStorage.getItem("theme")) ? localStorage.getItem("theme") : "auto"; } catch { /* auto */ }
theme(chosen);
$("theme").addEventListener("click", () => {
  chosen = THEMES[(THEMES.indexOf(chosen) + 1) % THEMES.length];
  theme(chosen);
});

connect();
