"""Makes psi.json: P-256 in plain integers and SHA-256 by hand, nothing of the package, so that it is a second opinion.

python tests/vectors/alignment/make.py > tests/vectors/alignment/psi.json
"""

from __future__ import annotations

import hashlib
import json

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
DST = b"fedprofile-alignment-V01-with-P256_XONLY_SHA-256_TAI"
IDS = ["C00001", "110101199003074514", "11010119900307451X", "张三", "ÉCOLE 7"]
PLAN, PARTY = bytes(range(32)), "tax"
K_OWNER, K_PARTNER = 2**200 + 17, N - 5

Point = tuple[int, int] | None


def root(x: int) -> int | None:
    """The y of the point with this x, None where there is none."""
    square = (x**3 - 3 * x + B) % P
    y = pow(square, (P + 1) // 4, P)
    return y if y * y % P == square else None


def add(a: Point, b: Point) -> Point:
    if a is None or b is None:
        return a or b
    (x1, y1), (x2, y2) = a, b
    if x1 == x2 and (y1 + y2) % P == 0:
        return None
    slope = (3 * x1 * x1 - 3) * pow(2 * y1, -1, P) if a == b else (y2 - y1) * pow(x2 - x1, -1, P)
    x = (slope * slope - x1 - x2) % P
    return x, (slope * (x1 - x) - y1) % P


def times(k: int, x: int) -> int:
    """x(kP) for a P with this x."""
    y = root(x)
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
    """(counter, x) of the first try that is on the curve."""
    counter = 0
    while True:
        tag = DST + bytes([len(DST)]) + len(message).to_bytes(8, "big") + message + counter.to_bytes(4, "big")
        x = int.from_bytes(hashlib.sha256(tag).digest(), "big")
        if x < P and root(x) is not None:
            return counter, x
        counter += 1


def digest(domain: str, *parts: bytes) -> bytes:
    body = b"".join(len(p).to_bytes(8, "big") + p for p in parts)
    return hashlib.sha256(f"fedprofile/{domain}".encode() + b"\0" + body).digest()


def vector(id: str) -> dict[str, object]:
    message = b"\1" + id.encode()
    counter, x = on_curve(message)
    blinded = times(K_PARTNER, x)
    evaluated = times(K_OWNER, blinded)
    value = times(K_OWNER, x)
    assert times(pow(K_PARTNER, -1, N), evaluated) == value
    raw = value.to_bytes(32, "big")
    return {
        "id": id, "counter": counter, "hash": f"{x:064x}", "blinded": f"{blinded:064x}",
        "evaluated": f"{evaluated:064x}", "value": f"{value:064x}",
        "pseudonym": digest("pseudonym/2", PLAN, message, raw)[:16].hex(),
        "claim": digest("claim/1", PLAN, PARTY.encode(), message, raw)[:16].hex(),
    }  # fmt: skip


if __name__ == "__main__":
    keys = {"k_owner": f"{K_OWNER:064x}", "k_partner": f"{K_PARTNER:064x}"}
    head = {"made_by": "tests/vectors/alignment/make.py", "dst": DST.decode(), "plan": PLAN.hex(), "party": PARTY}
    print(json.dumps({**head, **keys, "vectors": [vector(i) for i in IDS]}, indent=1, ensure_ascii=False))
