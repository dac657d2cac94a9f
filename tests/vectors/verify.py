"""Checks `attestation.json` by the book, in pure Python: RFC 8032 section 6 and protocol section 5, nothing else.

    python tests/vectors/verify.py tests/vectors/attestation.json

It shares no code with the product. JSON of these records is canonical (RFC 8785) as `json` writes it with sorted keys:
there is no fraction in them but `confidence`, written as it is, and all names are ASCII.
"""

import base64
import hashlib
import json
import sys
from pathlib import Path

P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
MEMORY = ["tier", "namespace", "title", "content", "tags", "priority", "confidence", "source", "created_at"]
LINK = ["source_id", "target_id", "relation", "created_at"]


def add(a, b):
    s, t = (a[1] - a[0]) * (b[1] - b[0]), (a[1] + a[0]) * (b[1] + b[0])
    c, d = 2 * a[3] * b[3] * D, 2 * a[2] * b[2]
    e, f, g, h = t - s, d - c, d + c, t + s
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(k, a):
    total = (0, 1, 1, 0)
    while k:
        total, a, k = (add(total, a) if k & 1 else total), add(a, a), k >> 1
    return total


def point(raw):
    y = int.from_bytes(raw, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    xx = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(xx, (P + 3) // 8, P)
    x = x if x * x % P == xx else x * pow(2, (P - 1) // 4, P) % P
    if y >= P or x * x % P != xx or (x == 0 and sign):
        return None
    x = x if x & 1 == sign else P - x
    return x, y, 1, x * y % P


def verifies(key, text, signature):
    a, r, s = point(key), point(signature[:32]), int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= L or any(times(8, q)[0] == 0 for q in (a, r)):
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + key + text).digest(), "little")
    one, other = times(s, point(bytes.fromhex("58" + "66" * 31))), add(r, times(k % L, a))
    return all((one[i] * other[2] - other[i] * one[2]) % P == 0 for i in (0, 1))


def content(record, names, optional):
    said = {name: record[name] for name in names} | {name: record.get(name) for name in optional}
    if "metadata" in record:
        said["metadata"] = {k: v for k, v in record["metadata"].items() if k != "attestation"}
        said["confidence"] = int(said["confidence"]) if said["confidence"] in (0, 1) else said["confidence"]
    text = json.dumps(said, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def text_of(kind, record, attestation, first):
    ends = [(name[:-3], record[name]) for name in ("source_id", "target_id")] if "source_id" in record else []
    lines = [*ends, ("relation", record["relation"])] if ends else [("id", record["id"])]
    lines += [("agent", attestation["agent"]), ("namespace", record["namespace"])]
    if kind == "memory":
        lines.append(("content", content(record, MEMORY, ["expires_at"])))
    elif kind == "link":
        lines.append(("content", content(record, LINK, ["valid_from", "valid_until", "observed_by"])))
    context = ",".join(":".join(map(str, entry)) for entry in attestation["context"])
    lines += [("at", attestation["at"]), ("depth", attestation["depth"]), ("context", context)]
    lines += [("first", first)] * bool(first) + [("dot", ":".join(map(str, attestation["dot"])))]
    return "".join([f"ai-memory/{kind}/v1\n", *(f"{name} {value}\n" for name, value in lines)])


def tag_of(kind, record, attestation, text):
    """The first 16 bytes of SHA-256 over kind, namespace, id, dot, check, and the signature behind a NUL, as hex."""
    check = hashlib.sha256(text[: text.rindex("dot ")].encode()).hexdigest()[:24]
    said = "\0".join((kind[0], record["namespace"], record["id"], *map(str, attestation["dot"]), check, ""))
    return hashlib.sha256(said.encode() + raw(attestation["sig"])).hexdigest()[:32]


def raw(text):
    return base64.urlsafe_b64decode(text + "==")


def verdict(vector):
    """Whether the record is what its attestation says, and signed by the key in it and its first author's."""
    kind, record = vector["kind"], vector["record"]
    attestation = record["metadata"]["attestation"] if kind == "memory" else record["attestation"]
    first, tag, good = (
        attestation.get("first"),
        "",
        attestation["at"] == (record.get("deleted_at") or record["updated_at"]),
    )
    if first is not None:
        text = text_of(kind, record, first, "")
        good = good and verifies(raw(first["key"]), text.encode(), raw(first["sig"]))
        tag = tag_of(kind, record, first, text)
    text = text_of(kind, record, attestation, tag)
    return good and verifies(raw(attestation["key"]), text.encode(), raw(attestation["sig"]))


if __name__ == "__main__":
    vectors = json.loads(Path(sys.argv[1]).read_text())["vectors"]
    found = [(one["name"], verdict(one) is one["valid"]) for one in vectors]
    print(*(f"{'ok   ' if is_right else 'WRONG'} {name}" for name, is_right in found), sep="\n")
    sys.exit(not all(is_right for _, is_right in found))
