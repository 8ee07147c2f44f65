// Which version is worse, and in what: a hint for the eye. docs/page.md says by which bounds.


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

/** Names of services of which a version looks worse than the others. */
function worse(services) {
  return services.filter((service) => {
    const shown = service.versions.filter(exists), base = baseline(shown);
    return shown.some((v) => Object.keys(faults(v, base)).length);
  }).map((service) => service.name);
}

/** The version to compare with: the one with most connections that ended well. */
function baseline(versions) {
  const some = versions.filter((v) => v.ended >= 20);
  return some.sort((a, b) => b.asked - a.asked || b.ended - a.ended)[0];
}
