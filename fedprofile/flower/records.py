"""Bytes in and out of Flower messages: one ConfigRecord with one bytes value, and nothing else."""

from __future__ import annotations

from flwr.app import ConfigRecord, Message, RecordDict

from fedprofile.errors import RemoteProtocolError

RECORD, KEY = "fedprofile", "envelope"
MESSAGE_TYPE = "query"
REFUSED, OTHER_RELEASE = 7, "bundle_not_allowed"
"""Flower's code for a bundle that a node does not serve, and our reason for it."""


def pack(data: bytes) -> RecordDict:
    return RecordDict({RECORD: ConfigRecord({KEY: data})})


def unpack(message: Message) -> bytes:
    """Raises RemoteProtocolError("bad_record") for any other content."""
    content = message.content
    record = content.config_records.get(RECORD)
    value = record[KEY] if record is not None and list(record) == [KEY] else None
    if len(content) != 1 or not isinstance(value, bytes):
        raise RemoteProtocolError("bad_record", "a fedprofile message holds exactly one envelope")
    return value
