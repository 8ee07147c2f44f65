#!/usr/bin/env python3
"""The layouts of agent/src/plan, written a second time from their description: makes the golden vectors of tests/tests/plan_golden.rs.

Slow and plain on purpose. Run it: `tests/golden/plan.py` prints the vectors.
"""
import hashlib

SLOTS, U64 = 16384, (1 << 64) - 1


def mix(z):
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & U64
    z = (z ^ z >> 27) * 0x94D049BB133111EB & U64
    return z ^ z >> 31


def version_table(blue, green, canary):
    def edge(basis_points):  # to the nearest slot; halves do not occur
        return (2 * basis_points * SLOTS + 10000) // 20000

    left, right = edge(green), edge(10000 - canary)
    return bytes(1 if s < left else 2 if s >= right else 0 for s in range(SLOTS))


def backend_table(seed, candidates):
    """candidates: (identity, 18 bytes) -> weight. Gives an identity, or None, for each slot."""
    chosen = sorted((i, w) for i, w in candidates.items() if w)
    if not chosen:
        return [None] * 1024
    cells = min(max(1024, 100 * len(chosen)), 65536)
    size = 1024
    while size < cells:
        size *= 2
    cell = lambda slot: slot if slot < cells else slot - size // 2
    key = {i: int.from_bytes(hashlib.sha256(seed + i).digest()[:8], "big") for i, _ in chosen}
    total = sum(w for _, w in chosen)

    # All claims within a time in which each cell is claimed for certain; the earliest one wins.
    claims = {}
    for i, w in chosen:
        for k in range(64 * size):
            r = mix(key[i] ^ mix(k))
            time = ((k << 40) + (r >> 32 << 8)) // w
            if time >= 64 * (size << 40) // total:
                break
            c = cell(r % size)
            claims[c] = min(claims.get(c, (U64, i)), (time, i))
    won = [claims[cell(s)] for s in range(size)]

    # Exact quotas, by largest remainder.
    quota = {i: w * size // total for i, w in chosen}
    for i, w in sorted(chosen, key=lambda c: (-(c[1] * size % total), c[0]))[: size - sum(quota.values())]:
        quota[i] += 1
    table, free, needs = [None] * size, [], {}
    for i, _ in chosen:
        mine = sorted((won[s][0], s) for s in range(size) if won[s][1] == i)
        for _, s in mine[: quota[i]]:
            table[s] = i
        free += [s for _, s in mine[quota[i] :]]
        needs[i] = quota[i] - min(len(mine), quota[i])
    for s in sorted(free, key=lambda s: (mix(cell(s)), s)):
        i = max((i for i in needs if needs[i]), key=lambda i: mix(key[i] ^ mix(~cell(s) & U64)))
        table[s], needs[i] = i, needs[i] - 1
    return table


def digest(versions, tables):
    form = b""
    for table in tables:
        while len(table) > 1024 and table[: len(table) // 2] == table[len(table) // 2 :]:
            table = table[: len(table) // 2]
        form += len(table).to_bytes(4, "little") + b"".join(i or bytes(18) for i in table)
    return hashlib.sha256(versions + hashlib.sha256(form).digest()).hexdigest()[:16]


def v4(n, port=8080):
    return bytes(10) + b"\xff\xff" + bytes([10, 0, n // 256, n % 256]) + port.to_bytes(2, "big")


def v6(n, port=443):
    return b"\x20\x01\x0d\xb8" + bytes(10) + n.to_bytes(2, "big") + port.to_bytes(2, "big")


CASES = {
    "one backend": (bytes(16), (10000, 0, 0), [{v4(1): 100}, {}, {}]),
    "two and one": (b"0123456789abcdef", (9500, 0, 500), [{v4(1): 100, v4(2): 100}, {}, {v4(3): 1}]),
    "thirds": (b"0123456789abcdef", (3334, 3333, 3333), [{v4(1): 1, v4(2): 1000}, {v6(1): 7, v6(2): 8, v6(3): 9}, {v4(9): 0}]),
    "sizes": (b"\xff" * 16, (1, 9998, 1), [{v4(n): 100 for n in range(11)}, {v6(n): n for n in range(100)}, {v4(n, n + 1): 1000 for n in range(60)}]),
}

if __name__ == "__main__":
    for name, (seed, weights, candidates) in CASES.items():
        versions = version_table(*weights)
        tables = [backend_table(seed, c) for c in candidates]
        ordinals = {i: n for c in candidates for n, i in enumerate(sorted(i for i in c if c[i]))}
        some = [[ordinals.get(t[s]) for s in (0, 1, 2, 3, 500, 1023, len(t) - 1)] for t in tables]
        print(name, digest(versions, tables), [versions.count(v) for v in range(3)], [len(t) for t in tables], some, sep="\n  ")
