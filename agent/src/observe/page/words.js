// Elements, and numbers as words. Text goes in as text, never as markup. All files of the script are one
// module, in the order in which page.rs lists them.

const VERSIONS = ["blue", "green", "canary"];
const MINUTES = 5;
const MOST_SERVICES = 40;
const SVG = "http://www.w3.org/2000/svg";
const WARNS = new Set(["drain-over", "lease-expired", "store-failed", "backend-down", "version-empty"]);

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
