"""fps1, the secure sum: messages, identities, keys, masks and the state machines of both sides, sans-io.

Holds no socket, file or model; draws randomness, tells the time and writes its journal only through what the caller
passes in (the clock is the system's unless given).
"""
