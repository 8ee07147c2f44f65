// The node, and what happened on it.


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
