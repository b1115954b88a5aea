"""What the Python clients print: one JSON object a line, read by tests/tests/clients."""

import json
import struct
import sys


def bits(score):
    """The 64 bits of a float8, in hexadecimal."""
    return struct.pack(">d", score).hex()


def tell(case, **told):
    print(json.dumps({"case": case, **told}), flush=True)


def scores(case, risks, **told):
    """All scores that a way of asking gave, in the order of loan_id."""
    tell(case, bits=[bits(risk) for risk in risks], **told)


def refusals():
    """The statements of refusals.txt that must fail, without their SQLSTATE."""
    with open(sys.argv[1], encoding="utf-8") as lines:
        return [line.split(" ", 1)[1].strip() for line in lines]
