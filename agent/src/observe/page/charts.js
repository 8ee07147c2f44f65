// Lines over the last minutes.


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
