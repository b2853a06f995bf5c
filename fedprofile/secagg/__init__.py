"""fps1, the secure sum: messages, identities, keys, masks and the state machines of both sides, sans-io.

Holds no socket, file, clock or model; draws randomness and writes its journal only through what the caller passes in.
"""
