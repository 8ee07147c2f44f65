// All of it: drawn when /events tells, once a second.


/** Takes a look in, and draws it. */
function take(look) {
  for (const service of look.services) remember(service, look.time_ms, look.node.epoch);
  draw(look);
}

function draw(look) {
  drawNode(look);
  const names = new Set(look.services.map((service) => service.name));
  for (const name of histories.keys()) if (!names.has(name)) histories.delete(name);
  const suspects = worse(look.services);
  $("attention").hidden = look.services.length < 2 || !suspects.length;
  replace($("attention"), suspects, () => {
    const line = document.createDocumentFragment();
    line.append("Look at ");
    suspects.slice(0, 12).forEach((name, place) => line.append(place ? ", " : "", make("a", { href: `#service-${name}` }, name)));
    if (suspects.length > 12) line.append(` and ${suspects.length - 12} more`);
    return line;
  });
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

// How long silence is nothing unusual: a full node is looked at less often.
let quiet = 4000;
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
    quiet = Math.max(4000, 3 * look.next_ms);
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
  if (heard && !lost && Date.now() - heard > quiet) lost = heard;
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
