// A service: its card.


const histories = new Map();
const cards = new Map();

/** Takes a look into the history of a service. Another epoch is a gap. */
function remember(service, at, epoch) {
  const history = histories.get(service.name) ?? { points: [], epoch };
  histories.set(service.name, history);
  const gap = history.points.length && (epoch !== history.epoch || at - history.points.at(-1).at > quiet);
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
  const wrongs = [], differs = service.sample_ratio.agreement === "differs";
  for (const v of shown) {
    const { element, cells } = row(card.versions, v.version, titled(v.version, v.release));
    element.classList.toggle("resting", v.asked === 0 && !v.rate);
    const wrong = faults(v, base);
    if (Object.keys(wrong).length) wrongs.push(`${v.version}: ${Object.values(wrong).join("; ")}`);
    cell(cells.asked, percent(v.asked));
    cell(cells.table, percent(v.table));
    const o = v.observed;
    // Looked at each second an interval cries wolf sooner or later: the agent's test does not.
    const outside = o.low > v.table + 1e-9 || o.high < v.table - 1e-9;
    cell(cells.observed, o.total ? `${percent(o.share)} (${percent(o.low).slice(0, -2)}–${percent(o.high)})` : "–",
      differs && outside && "the table's share is outside of the interval");
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
  const verdicts = [];
  if (wrongs.length) verdicts.push(`Worse than ${base?.version ?? "it should be"} – ${wrongs.join(" – ")}`);
  if (differs) verdicts.push("New connections are not shared as the table says");
  card.verdict.hidden = !verdicts.length;
  say(card.verdict, verdicts.join(" – "));
  drawMoving(card.moving, drains, service.versions);
  const names = shown.map((v) => v.version), history = histories.get(service.name);
  drawShare(card.share, history, at, names);
  drawTime(card.time, history, at, names);
  for (const one of [card.share, card.time]) for (const v of VERSIONS) one.keys[v].hidden = !names.includes(v);
  const all = shown.reduce((sum, v) => sum + v.backends.all, 0), down = shown.reduce((sum, v) => sum + v.backends.down, 0);
  say(card.summary, `Backends: ${all}${down ? `, ${down} down` : ""}`);
}

/** The transition of versions that have weight in one line; what drains in a line each: may it be stopped? */
function drawMoving(list, drains, shown) {
  const weighted = (d) => !d.backend && shown.find((v) => v.version === d.version)?.asked > 0;
  const flows = (d) => (d.flows ? `${count(d.flows)} ${d.flows === 1 ? "flow" : "flows"} remembered` : "");
  const settles = (ds) => Math.max(0, ...ds.map((d) => d.settles_in_s ?? 0));
  const some = (words) => words.filter(Boolean).join(", ");
  const moving = drains.filter(weighted), rest = drains.filter((d) => !weighted(d));
  const lines = rest.map((d) => {
    const answer = { yes: "may be stopped", no: "may not be stopped yet", unknown: "not known yet whether it may be stopped" }[d.may_stop];
    const over = d.deadline_in_s === null ? "" : d.deadline_in_s < 0 ? `over for ${span(-d.deadline_in_s)}` : `over in ${span(d.deadline_in_s)}`;
    const left = settles([d]);
    return [`${d.version}${d.backend ? ` ${d.backend}` : ""} ${answer}`, `: ${d.reason} (${some([d.why, flows(d), left ? `settles in ${span(left)}` : "", over])})`];
  });
  if (moving.length) {
    const left = settles(moving);
    const sum = moving.map((d) => some([d.version, flows(d)])).join("; ");
    lines.unshift(["A transition is under way", `: ${sum}${left ? `; settles in ${span(left)}` : ""}`]);
  }
  list.hidden = !lines.length;
  const text = JSON.stringify(lines);
  if (list.dataset.drawn === text) return;
  list.dataset.drawn = text;
  list.replaceChildren(...lines.map(([what, more]) => make("li", {}, make("b", {}, what), more)));
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
