"""Makes psi.json: Curve25519 in plain integers and SHA-256 by hand, nothing of the package, so that it is a second opinion.

python tests/vectors/alignment/make.py > tests/vectors/alignment/psi.json
"""

from __future__ import annotations

import hashlib
import json

P, A = 2**255 - 19, 486662
N = 2**252 + 27742317777372353535851937790883648493
DST = b"fedprofile-alignment-V02-with-curve25519_XMD:SHA-512_ELL2_NU_"
IDS = ["C00001", "110101199003074514", "11010119900307451X", "张三", "ÉCOLE 7"]
PLAN, ROSTER, PARTY = bytes(range(32)), bytes(range(32, 64)), "tax"
KEYS = {name: 2**254 + 8 * (2**200 + n) for name, n in (("k_owner", 17), ("k_partner", 5), ("k_third", 2**249))}

Point = tuple[int, int] | None


def root(square: int) -> int | None:
    """A square root modulo P, None where there is none."""
    y = pow(square, (P + 3) // 8, P)
    y = y if y * y % P == square % P else y * pow(2, (P - 1) // 4, P) % P
    return y if y * y % P == square % P else None


def right(u: int) -> int:
    return (u**3 + A * u**2 + u) % P


def add(a: Point, b: Point) -> Point:
    if a is None or b is None:
        return a or b
    (x1, y1), (x2, y2) = a, b
    if x1 == x2 and (y1 + y2) % P == 0:
        return None
    slope = (3 * x1 * x1 + 2 * A * x1 + 1) * pow(2 * y1, -1, P) if a == b else (y2 - y1) * pow(x2 - x1, -1, P)
    x = (slope * slope - A - x1 - x2) % P
    return x, (slope * (x1 - x) - y1) % P


def times(k: int, x: int) -> int:
    """u(kP) for a P with this u."""
    y = root(right(x))
    assert y is not None
    total: Point = None
    point: Point = (x, y)
    while k:
        if k & 1:
            total = add(total, point)
        point, k = add(point, point), k >> 1
    assert total is not None
    return total[0]


def on_curve(message: bytes) -> tuple[int, int]:
    """(which of Elligator's two candidates, u): RFC 9380 without its last step, clearing the cofactor."""
    tag = DST + bytes([len(DST)])
    first = hashlib.sha512(bytes(128) + message + bytes([0, 48, 0]) + tag).digest()
    r = int.from_bytes(hashlib.sha512(first + b"\1" + tag).digest()[:48], "big") % P
    u = -A * pow(1 + 2 * r * r, -1, P) % P
    return (1, u) if root(right(u)) is not None else (2, (-A - u) % P)


def raw(u: int) -> bytes:
    return u.to_bytes(32, "little")


def digest(domain: str, *parts: bytes) -> bytes:
    body = b"".join(len(p).to_bytes(8, "big") + p for p in parts)
    return hashlib.sha256(f"fedprofile/{domain}".encode() + b"\0" + body).digest()


def vector(id: str) -> dict[str, object]:
    message = b"\1" + id.encode()
    candidate, u = on_curve(message)
    owner, partner, third = KEYS.values()
    blinded = times(partner, u)
    evaluated = times(owner, blinded)
    value = times(owner, times(8 * pow(8, -1, N), u))  # the part of P in the subgroup; masks are multiples of eight
    assert value == times(owner, u)
    assert times(8 * pow(8 * partner, -1, N), evaluated) == value
    joint = times(third, times(partner, value))
    return {
        "id": id, "candidate": candidate, "hash": raw(u).hex(), "blinded": raw(blinded).hex(),
        "evaluated": raw(evaluated).hex(), "value": raw(value).hex(),
        "pseudonym": digest("pseudonym/2", PLAN, message, raw(value))[:16].hex(),
        "claim": digest("claim/1", PLAN, PARTY.encode(), message, raw(value))[:16].hex(),
        "joint": raw(joint).hex(), "name": digest("name/1", ROSTER, message, raw(joint))[:16].hex(),
    }  # fmt: skip


if __name__ == "__main__":
    keys = {name: raw(k).hex() for name, k in KEYS.items()}
    head = {"made_by": "tests/vectors/alignment/make.py", "dst": DST.decode(), "plan": PLAN.hex(), "party": PARTY}
    head["roster"] = ROSTER.hex()
    print(json.dumps({**head, **keys, "vectors": [vector(i) for i in IDS]}, indent=1, ensure_ascii=False))
