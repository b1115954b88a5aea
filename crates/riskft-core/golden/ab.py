"""Places of keys in an A/B test, by the definitions of FNV-1a and of SplitMix64's finaliser.

Prints what the tests of src/ab.rs expect.
"""

MASK = (1 << 64) - 1
GAMMA = 0x9E3779B97F4A7C15


def mix(value):
    value = (value + GAMMA) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def fnv(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


def place(model, test, key):
    seed = mix(mix(model) ^ test)
    return mix(seed ^ mix(fnv(b"t" + key.encode()))) >> 11


for key in ["", "5", "LOAN-0001", "é"]:
    print(place(1, 1, key))
print(place((1 << 63) - 1, (1 << 31) - 1, "5"))
